//! `wharf cp`, with docker's rules of where a copy goes.

mod archive;
mod extract;
mod place;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use clap::Args;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::io::SyncIoBridge;
use wharf_client::v1::path_stat::Kind;
use wharf_client::v1::{PathStat, ReadArchiveRequest, StatPathRequest, WriteArchiveStart};
use wharf_client::{Client, Error, ErrorReason};

use self::place::{Found, Inside, Operand, Source};
use super::failure::Failure;
use super::session::{Session, idempotency_key};

/// What is on its way between the archive's maker and its taker.
const PIPE: usize = 1 << 20;
/// As many links as a kernel follows.
const MAX_LINKS: usize = 40;

/// Copy files or directories between a container and this machine
#[derive(Debug, Args)]
pub(crate) struct Cp {
    /// Keep the owners (uid and gid), and with them set-user-id bits and capabilities of files
    #[arg(short, long)]
    archive: bool,
    /// Follow a symbolic link in SRC
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// CONTAINER:PATH, a local path, or - for a tar on standard input
    #[arg(value_name = "SRC")]
    source: String,
    /// CONTAINER:PATH, a local path, or - for a tar on standard output
    #[arg(value_name = "DST")]
    destination: String,
}

impl Cp {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let source = Operand::parse(&self.source);
        let destination = Operand::parse(&self.destination);
        match (source, destination) {
            (Operand::Inside(from), to @ (Operand::Local(_) | Operand::Stream)) => {
                self.fetch(session.connect().await?, &from, to).await
            }
            (Operand::Stream, Operand::Inside(to)) => {
                let client = session.connect().await?;
                self.send(&client, &to, tokio::io::stdin()).await
            }
            (Operand::Local(from), Operand::Inside(to)) => {
                self.bring(session.connect().await?, &from, &to).await
            }
            (Operand::Inside(_), Operand::Inside(_)) => {
                Err(usage("copying between containers is not supported"))
            }
            (Operand::Local(_) | Operand::Stream, Operand::Local(_) | Operand::Stream) => {
                Err(usage("one of SRC and DST must be CONTAINER:PATH"))
            }
        }
    }

    /// Out of the container.
    async fn fetch(&self, client: Client, from: &Inside, to: Operand) -> Result<(), Failure> {
        let request = ReadArchiveRequest {
            container: from.container.clone(),
            path: from.path.clone(),
            follow_link: self.follow_link || from.means_what_it_leads_to,
        };
        let mut download = client.download(request).await?;
        let Operand::Local(to) = to else {
            return match download.write_to(&mut tokio::io::stdout()).await {
                Err(Error::Write(error)) => Err(Failure::Output(error)),
                written => Ok(written?),
            };
        };
        let source = Source {
            name: from.name().into(),
            is_directory: is_directory(download.stat()),
            contents_only: from.contents_only,
        };
        let placement =
            place::local(&source, &to).map_err(|problem| copy_failed(Path::new(&to), problem))?;
        let (reader, mut writer) = tokio::io::duplex(PIPE);
        let owners = self.archive;
        let extraction =
            spawn_blocking(move || extract::extract(SyncIoBridge::new(reader), &placement, owners));
        let received = download.write_to(&mut writer).await;
        drop(writer);
        match (received, joined(extraction.await)) {
            // The other end has left, and says why.
            (Err(Error::Write(_)) | Ok(()), extracted) => {
                extracted.map_err(|error| copy_failed(Path::new(&to), error))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Into the container.
    async fn bring(&self, client: Client, from: &str, to: &Inside) -> Result<(), Failure> {
        let (path, source) = place::source(from, self.follow_link)
            .map_err(|error| copy_failed(Path::new(from), error))?;
        let found = find(&client, to).await?;
        let (directory, top) = place::inside(&source, &found, to)
            .map_err(|problem| copy_failed(Path::new(from), problem))?;
        let (reader, writer) = tokio::io::duplex(PIPE);
        let archiving =
            spawn_blocking(move || archive::archive(&path, top, SyncIoBridge::new(writer)));
        let content = Made {
            reader,
            archiving: Some(archiving),
        };
        let target = Inside {
            path: directory,
            ..to.clone()
        };
        self.send(&client, &target, content).await
    }

    async fn send(
        &self,
        client: &Client,
        to: &Inside,
        content: impl AsyncRead + Unpin + Send + 'static,
    ) -> Result<(), Failure> {
        let start = WriteArchiveStart {
            container: to.container.clone(),
            path: to.path.clone(),
            preserve_owners: self.archive,
            idempotency_key: idempotency_key(),
            ..Default::default()
        };
        client.upload(start, content).await?;
        Ok(())
    }
}

fn is_directory(stat: &PathStat) -> bool {
    stat.kind() == Kind::Directory
}

/// What is at a path inside; a link in its last part is followed.
async fn find(client: &Client, at: &Inside) -> Result<Found, Failure> {
    let mut path = at.path.clone();
    for _ in 0..MAX_LINKS {
        let request = StatPathRequest {
            container: at.container.clone(),
            path: path.clone(),
        };
        let stat = match client.call(request).await {
            Ok(answer) => answer.stat.unwrap_or_default(),
            Err(error) if error.reason() == Some(ErrorReason::PathNotFound) => {
                return Ok(Found::Nothing { path });
            }
            Err(error) => return Err(error.into()),
        };
        match stat.kind() {
            Kind::Symlink => path = place::led_to(&path, &stat.link_target),
            Kind::Directory => return Ok(Found::Directory { path }),
            Kind::Unspecified | Kind::File | Kind::Other => return Ok(Found::File { path }),
        }
    }
    Err(usage("too many symbolic links"))
}

fn usage(problem: &str) -> Failure {
    Failure::Usage(problem.to_owned())
}

fn copy_failed(path: &Path, source: io::Error) -> Failure {
    Failure::Copy {
        path: PathBuf::from(path),
        source,
    }
}

fn joined(result: Result<io::Result<()>, tokio::task::JoinError>) -> io::Result<()> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// An archive while it is made. It ends well only if its making does.
struct Made {
    reader: tokio::io::DuplexStream,
    /// Until it has ended.
    archiving: Option<JoinHandle<io::Result<()>>>,
}

impl AsyncRead for Made {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(context, buffer);
        let is_end = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
        match &mut self.archiving {
            Some(archiving) if is_end && buffer.remaining() > 0 => {
                let ended = std::task::ready!(Pin::new(archiving).poll(context));
                self.archiving = None;
                Poll::Ready(joined(ended))
            }
            _ => read,
        }
    }
}
