//! `wharf load`, also `wharf import`.

use clap::Args;
use tokio::fs::File;
use wharf_client::Client;
use wharf_client::v1::{Image, ImportImageResponse, ImportImageStart, Platform};

use super::attached::is_stdin;
use super::failure::Failure;
use super::human::familiar;
use super::json::Json;
use super::output::Format;
use super::session::{Session, idempotency_key};
use super::values;

/// Read an OCI or docker archive, and print what came in: each reference, or the id of what has none
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Reference, if the archive has none
    #[arg(short, long)]
    reference: Option<String>,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    platform: Option<Platform>,
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Archive (plain, gzip or zstd tar); - for standard input, the default
    #[arg(short, long, value_name = "FILE")]
    input: Option<String>,
    /// Archive, as with --input
    #[arg(conflicts_with = "input")]
    file: Option<String>,
}

impl Load {
    fn start(&self) -> ImportImageStart {
        ImportImageStart {
            reference: self.reference.clone().unwrap_or_default(),
            platform: self.platform.clone(),
            idempotency_key: idempotency_key(),
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let file = self.input.as_deref().or(self.file.as_deref());
        let imported = match file.unwrap_or("-") {
            "-" if is_stdin() => {
                return Err(Failure::Usage(
                    "an archive does not come from a terminal; -i FILE reads a file".to_owned(),
                ));
            }
            "-" => {
                let client = session.connect().await?;
                client.upload(self.start(), tokio::io::stdin()).await?
            }
            path => {
                let file = open(path).await?;
                self.send(session.connect().await?, file).await?
            }
        };
        for image in &imported.images {
            match self.format {
                Format::Json => session.output.json(&Json::of(image)?)?,
                Format::Table => names(image)
                    .into_iter()
                    .try_for_each(|name| session.output.line(name))?,
            }
        }
        Ok(())
    }

    async fn send(&self, client: Client, file: File) -> Result<ImportImageResponse, Failure> {
        Ok(client.upload(self.start(), file).await?)
    }
}

async fn open(path: &str) -> Result<File, Failure> {
    File::open(path).await.map_err(|source| Failure::File {
        path: path.into(),
        source,
    })
}

/// What `run` takes: each reference, or the id of an image that has none.
fn names(image: &Image) -> Vec<&str> {
    match image.references.as_slice() {
        [] => vec![&image.id],
        references => references.iter().map(|it| familiar(it)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_came_in_has_all_its_references_or_its_id() {
        let mut image = Image {
            id: "sha256:00".into(),
            ..Default::default()
        };
        assert_eq!(names(&image), ["sha256:00"]);
        image.references = vec!["docker.io/library/a:1".into(), "host:5000/b:2".into()];
        assert_eq!(names(&image), ["a:1", "host:5000/b:2"]);
    }
}
