//! `wharf save`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::NamedTempFile;
use tokio::fs::File;
use wharf_client::v1::{ExportImageRequest, Platform};
use wharf_client::{Client, Error};

use super::attached::{Proxy, Signals, is_stdout};
use super::failure::Failure;
use super::session::Session;
use super::values;

/// Write images as an OCI archive
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// File, which is there once it is whole; - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: String,
    /// Only this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    platform: Option<Platform>,
    /// References, digests or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Save {
    fn request(&self) -> ExportImageRequest {
        ExportImageRequest {
            images: self.images.clone(),
            platform: self.platform.clone(),
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let to_stdout = self.output == "-";
        if to_stdout && is_stdout() {
            return Err(Failure::Usage(
                "an archive is nothing for a terminal; -o FILE writes it to a file".to_owned(),
            ));
        }
        let client = session.connect().await?;
        if to_stdout {
            let mut download = client.download(self.request()).await?;
            return match download.write_to(&mut tokio::io::stdout()).await {
                Err(Error::Write(error)) => Err(Failure::Output(error)),
                written => Ok(written?),
            };
        }
        let mut signals = Signals::new(Proxy::Leave).map_err(Failure::Runtime)?;
        // Whoever is asked to leave takes the unfinished file along.
        tokio::select! {
            saved = self.save(&client, Path::new(&self.output)) => saved,
            number = signals.next() => Err(Failure::Signaled(number)),
        }
    }

    async fn save(&self, client: &Client, path: &Path) -> Result<(), Failure> {
        let failed = |source| Failure::Write {
            path: path.to_owned(),
            source,
        };
        let target = Target::of(path).map_err(failed)?;
        let mut file = target.file().map_err(failed)?;
        let mut download = client.download(self.request()).await?;
        match download.write_to(&mut file).await {
            Err(Error::Write(error)) => return Err(failed(error)),
            written => written?,
        }
        target.finish(&file).await.map_err(failed)
    }
}

/// Where an archive goes.
enum Target {
    /// Beside its place until it is whole.
    Beside(NamedTempFile, PathBuf),
    /// A device or a pipe, which nothing may take the place of.
    Itself(std::fs::File),
}

impl Target {
    fn of(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(about) if !about.is_file() => {
                let file = fs::OpenOptions::new().write(true).open(path)?;
                Ok(Self::Itself(file))
            }
            Ok(_) => Self::beside(fs::canonicalize(path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::beside(path.to_owned()),
            Err(error) => Err(error),
        }
    }

    fn beside(path: PathBuf) -> io::Result<Self> {
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        let file = NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
        Ok(Self::Beside(file, path))
    }

    fn file(&self) -> io::Result<File> {
        let file = match self {
            Self::Beside(file, _) => file.as_file(),
            Self::Itself(file) => file,
        };
        file.try_clone().map(File::from_std)
    }

    async fn finish(self, file: &File) -> io::Result<()> {
        match self {
            Self::Beside(beside, path) => {
                file.sync_all().await?;
                beside.persist(path)?;
                Ok(())
            }
            Self::Itself(_) => Ok(()),
        }
    }
}
