//! `wharf images`.

use clap::Args;
use wharf_client::v1::{Image, ListImagesRequest};

use super::failure::Failure;
use super::filters::{self, Pair};
use super::human::{self, Truncation, Width};
use super::json::Json;
use super::output::{Format, Table};
use super::session::Session;

const MOST_PER_PAGE: i32 = 1000;

/// List images
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Only those: reference=REFERENCE (a trailing * matches any rest), dangling=BOOL, unused=BOOL, label=KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filters::pair)]
    filter: Vec<Pair>,
    /// Only ids, whole ones. The other commands take them, or their first 12 or more digits
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    truncation: Truncation,
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only this reference; a trailing * matches any rest
    reference: Option<String>,
}

impl Images {
    fn request(&self) -> Result<ListImagesRequest, Failure> {
        let mut filter = filters::images(&self.filter)?;
        if let Some(reference) = &self.reference {
            let references = &mut filter.get_or_insert_default().references;
            references.push(reference.clone());
        }
        Ok(ListImagesRequest {
            page_size: MOST_PER_PAGE,
            filter,
            ..Default::default()
        })
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let request = self.request()?;
        let mut images = session.connect().await?.pages(request).collect().await?;
        // The newest first, as docker has it.
        images.reverse();
        let width = self.truncation.width();
        let output = &mut session.output;
        match self.format {
            _ if self.quiet => images.iter().try_for_each(|image| output.line(&image.id)),
            Format::Json => images
                .iter()
                .try_for_each(|image| output.json(&Json::of(image)?)),
            Format::Table => table(&images, width).print(output),
        }
    }
}

/// One row per reference.
fn table(images: &[Image], width: Width) -> Table {
    let mut table = Table::new(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for image in images {
        let dangling = image.references.is_empty().then_some("");
        let references = image.references.iter().map(String::as_str);
        for reference in references.chain(dangling) {
            let (repository, tag) = human::repository_and_tag(reference);
            table.row([
                repository,
                tag,
                width.id(&image.id),
                human::ago(image.create_time.as_ref()),
                human::size(bytes(image)),
            ]);
        }
    }
    table
}

/// What the image takes when it can be run; until it is unpacked, what its content takes.
fn bytes(image: &Image) -> i64 {
    match image.unpacked_bytes {
        0 => image.content_bytes,
        unpacked => unpacked,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::cli::output::tests::captured;

    #[test]
    fn each_reference_has_a_row_and_a_dangling_image_too() {
        let named = Image {
            id: "sha256:0123456789abcdef".into(),
            references: ["docker.io/library/a:1", "host:5000/b:2"]
                .map(str::to_owned)
                .to_vec(),
            content_bytes: 1_500_000,
            ..Default::default()
        };
        let dangling = Image {
            id: "sha256:fedcba9876543210".into(),
            unpacked_bytes: 2_000,
            ..Default::default()
        };
        let (mut output, out, _) = captured();
        table(&[named, dangling], Width::Short)
            .print(&mut output)
            .unwrap();
        let want = "\
REPOSITORY    TAG      IMAGE ID       CREATED   SIZE
a             1        0123456789ab             1.5MB
host:5000/b   2        0123456789ab             1.5MB
<none>        <none>   fedcba987654             2kB
";
        assert_eq!(out.text(), want);
    }
}
