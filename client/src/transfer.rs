//! Pulls and pushes of images, over interruptions.

use wharf_api::v1::{
    Descriptor, PullImageRequest, PullImageResponse, PullResult, PushImageRequest,
    PushImageResponse, pull_image_response, push_image_response,
};

use crate::client::Client;
use crate::error::Error;
use crate::resume::Resuming;
use crate::rpc::ServerStreaming;

/// A request to pull or push: its type says which method is meant.
pub trait Transferred: ServerStreaming {
    /// What it comes to.
    type Result: Clone + Send;

    /// The result, if `message` is the last one.
    fn result(message: &Self::Response) -> Option<&Self::Result>;
}

impl Transferred for PullImageRequest {
    type Result = PullResult;

    fn result(message: &PullImageResponse) -> Option<&PullResult> {
        match &message.response {
            Some(pull_image_response::Response::Result(result)) => Some(result),
            Some(
                pull_image_response::Response::Resolved(_)
                | pull_image_response::Response::Progress(_),
            )
            | None => None,
        }
    }
}

impl Transferred for PushImageRequest {
    type Result = Descriptor;

    fn result(message: &PushImageResponse) -> Option<&Descriptor> {
        match &message.response {
            Some(push_image_response::Response::Result(result)) => Some(result),
            Some(push_image_response::Response::Progress(_)) | None => None,
        }
    }
}

/// An image on its way. Dropping it ends the call, and with its last caller the transfer, unless a pull
/// was asked to go on.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use wharf_client::Client;
/// use wharf_client::credentials::{DockerConfig, registry_of};
/// use wharf_client::v1::PullImageRequest;
/// use wharf_client::v1::pull_image_response::Response;
///
/// let client = Client::from_env().await?;
/// let image = "registry.example.com/team/app:1";
/// let mut pull = client.pull(PullImageRequest {
///     image: image.into(),
///     auth: DockerConfig::from_env()?.get(registry_of(image)).await?,
///     ..Default::default()
/// });
/// while let Some(message) = pull.next().await? {
///     match message.response {
///         Some(Response::Progress(at)) => println!("{} of {} bytes", at.done_bytes, at.total_bytes),
///         Some(Response::Result(result)) => println!("{:?}", result.image),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transfer<R: Transferred> {
    request: R,
    stream: Resuming<R>,
    is_over: bool,
}

impl<R: Transferred> Transfer<R> {
    pub(crate) fn new(client: Client, request: R) -> Self {
        Self {
            request,
            stream: Resuming::new(client),
            is_over: false,
        }
    }

    /// The next message; `None` after the result. After an interruption it is asked for again, and goes
    /// on from what has arrived: what was told of layers is told anew. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Call`] when server or registry refuse, [`Error::Deadline`], [`Error::Incomplete`], and
    /// the interruption itself when the server has been away for a minute, or was never there. Calling
    /// again tries again.
    pub async fn next(&mut self) -> Result<Option<R::Response>, Error> {
        if self.is_over {
            return Ok(None);
        }
        let message = self.stream.next(&self.request).await?;
        let message = message.ok_or(Error::Incomplete { method: R::METHOD })?;
        self.is_over = R::result(&message).is_some();
        Ok(Some(message))
    }

    /// Reads to the end, for those who do not look at progress.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn finish(mut self) -> Result<R::Result, Error> {
        while let Some(message) = self.next().await? {
            if let Some(result) = R::result(&message) {
                return Ok(result.clone());
            }
        }
        Err(Error::Incomplete { method: R::METHOD })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use wharf_api::v1::pull_image_response::Response;
    use wharf_api::v1::registry_auth::Credentials;
    use wharf_api::v1::{BasicAuth, RegistryAuth, TransferProgress};

    use super::*;
    use crate::ErrorReason;
    use crate::testing::{Server, Step, away, ok, send};

    const LIMIT: Duration = Duration::from_secs(20);

    fn message(response: Response) -> Step {
        send(&PullImageResponse {
            response: Some(response),
        })
    }

    fn progress(done_bytes: i64) -> Step {
        message(Response::Progress(TransferProgress {
            done_bytes,
            total_bytes: 10,
            layers: Vec::new(),
        }))
    }

    fn result() -> Step {
        message(Response::Result(PullResult {
            changed: true,
            ..Default::default()
        }))
    }

    fn request() -> PullImageRequest {
        let basic = BasicAuth {
            username: "me".into(),
            password: "secret".into(),
        };
        PullImageRequest {
            image: "alpine".into(),
            auth: Some(RegistryAuth {
                credentials: Some(Credentials::Basic(basic)),
            }),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_pull_that_was_cut_is_asked_for_again_with_its_credentials() {
        let resolved = || message(Response::Resolved(Descriptor::default()));
        let server = Server::start(vec![
            vec![resolved(), progress(3), Step::Cut],
            vec![away("SERVER_STARTING")],
            vec![resolved(), progress(7), result(), ok()],
        ]);
        let mut pull = server.client().await.pull(request());
        assert!(!format!("{pull:?}").contains("secret"));
        let mut done = Vec::new();
        let mut last = None;
        while let Some(message) = timeout(LIMIT, pull.next()).await.unwrap().unwrap() {
            if let Some(Response::Progress(progress)) = &message.response {
                done.push(progress.done_bytes);
            }
            last = message.response;
        }
        assert_eq!(done, [3, 7]);
        assert!(matches!(last, Some(Response::Result(result)) if result.changed));
        let calls = server.calls();
        let sent = calls.iter().map(|call| call.message::<PullImageRequest>());
        assert!(calls.len() == 3 && sent.clone().all(|sent| sent == request()));
    }

    #[tokio::test]
    async fn a_registry_that_stays_away_ends_the_pull() {
        let server = Server::start(vec![vec![progress(3), away("REGISTRY_UNAVAILABLE")]]);
        let pull = server.client().await.pull(request());
        let error = timeout(LIMIT, pull.finish()).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(ErrorReason::RegistryUnavailable));
        assert_eq!(server.calls().len(), 1);
    }

    #[tokio::test]
    async fn a_push_that_ends_without_its_result_is_incomplete() {
        let server = Server::start(vec![
            vec![send(&PushImageResponse::default()), ok()],
            vec![
                send(&PushImageResponse {
                    response: Some(push_image_response::Response::Result(Descriptor {
                        digest: "sha256:00".into(),
                        ..Default::default()
                    })),
                }),
                ok(),
            ],
        ]);
        let client = server.client().await;
        let push = || timeout(LIMIT, client.push(PushImageRequest::default()).finish());
        let error = push().await.unwrap().unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
        assert_eq!(push().await.unwrap().unwrap().digest, "sha256:00");
    }
}
