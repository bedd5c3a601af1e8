//! Files of containers, by the generated client.

use bytes::Bytes;
use futures_util::stream;
use sha2::{Digest as _, Sha256};
use wharf_api::v1::{self, TransferEnd, read_archive_response, read_file_response};

use super::client::answer;
use super::{Client, Refusal, image};

const CHUNK: usize = 256 << 10;

/// What closes an upload.
pub fn end_of(content: &[u8]) -> TransferEnd {
    TransferEnd {
        size_bytes: i64::try_from(content.len()).unwrap(),
        digest: image::digest(&Sha256::digest(content)),
    }
}

fn chunks(content: &Bytes) -> Vec<Bytes> {
    let starts = (0..content.len()).step_by(CHUNK);
    starts
        .map(|at| content.slice(at..content.len().min(at + CHUNK)))
        .collect()
}

impl Client {
    pub async fn write_archive(
        &self,
        start: v1::WriteArchiveStart,
        archive: impl Into<Bytes>,
    ) -> Result<v1::WriteArchiveResponse, Refusal> {
        use v1::write_archive_request::Request::{Data, End, Start};
        let archive = archive.into();
        let data = chunks(&archive).into_iter().map(Data);
        let parts: Vec<_> = std::iter::once(Start(start))
            .chain(data)
            .chain([End(end_of(&archive))])
            .collect();
        self.send_archive(parts).await
    }

    /// Messages that may be anything.
    pub async fn send_archive(
        &self,
        parts: Vec<v1::write_archive_request::Request>,
    ) -> Result<v1::WriteArchiveResponse, Refusal> {
        let messages = parts.into_iter().map(|request| v1::WriteArchiveRequest {
            request: Some(request),
        });
        let request = self.request(stream::iter(messages));
        answer(self.files().write_archive(request).await)
    }

    pub async fn write_file(
        &self,
        start: v1::WriteFileStart,
        content: impl Into<Bytes>,
    ) -> Result<v1::PathStat, Refusal> {
        use v1::write_file_request::Request::{Data, End, Start};
        let content = content.into();
        let data = chunks(&content).into_iter().map(Data);
        let messages = std::iter::once(Start(start))
            .chain(data)
            .chain([End(end_of(&content))])
            .map(|request| v1::WriteFileRequest {
                request: Some(request),
            });
        let request = self.request(stream::iter(messages.collect::<Vec<_>>()));
        let written = answer(self.files().write_file(request).await)?;
        Ok(written.stat.expect("a stat"))
    }

    /// A small file to `path`.
    pub async fn put(
        &self,
        container: &str,
        path: &str,
        content: &str,
    ) -> Result<v1::PathStat, Refusal> {
        let start = v1::WriteFileStart {
            container: container.to_owned(),
            path: path.to_owned(),
            ..Default::default()
        };
        self.write_file(start, content.to_owned()).await
    }

    /// All of a file, checked against its end.
    pub async fn read_file(&self, container: &str, path: &str) -> Result<Vec<u8>, Refusal> {
        use read_file_response::Response;
        let request = self.request(v1::ReadFileRequest {
            container: container.to_owned(),
            path: path.to_owned(),
        });
        let mut messages = answer(self.files().read_file(request).await)?;
        let mut content = Vec::new();
        let mut place = 0;
        while let Some(message) = messages.message().await? {
            match message.response.expect("a message") {
                Response::Stat(_) => assert_eq!(place, 0, "the stat comes first"),
                Response::Data(data) => content.extend_from_slice(&data),
                Response::End(end) => {
                    assert_eq!(end, end_of(&content));
                    assert!(messages.message().await?.is_none(), "the end is the last");
                    return Ok(content);
                }
            }
            place += 1;
        }
        panic!("a file without its end");
    }

    /// All of an archive, checked against its end.
    pub async fn read_archive(&self, container: &str, path: &str) -> Result<Vec<u8>, Refusal> {
        use read_archive_response::Response;
        let request = self.request(v1::ReadArchiveRequest {
            container: container.to_owned(),
            path: path.to_owned(),
            ..Default::default()
        });
        let mut messages = answer(self.files().read_archive(request).await)?;
        let mut content = Vec::new();
        while let Some(message) = messages.message().await? {
            match message.response.expect("a message") {
                Response::Stat(_) => {}
                Response::Data(data) => content.extend_from_slice(&data),
                Response::End(end) => {
                    assert_eq!(end, end_of(&content));
                    return Ok(content);
                }
            }
        }
        panic!("an archive without its end");
    }
}
