//! Commands: each is sent to the container's actor, with its cause, and is done to its end whether
//! or not the caller stays for the answer.

use std::sync::Arc;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::container::command::{Order, SignalOrder, StartOrder};
use super::container::create::Creation;
use super::container::{actor, update};
use super::idempotency::{self, Claim, Claimed};
use super::{
    Answer, Call, CreateContainer, DeleteContainer, Engine, Error, ProcessInfo, Started,
    StopContainer, Stopped, UpdateContainer, names,
};
use crate::backend::{BackendError, SignalScope, proc};
use crate::model::container::{ImageUse, Intent, Operation};
use crate::model::spec::{Network, Seccomp};
use crate::model::{
    Cause, Container, ContainerId, ContainerSpec, Image, Run, Sequence, Signal, State,
};
use crate::oci::runtime_spec::SpecError;
use crate::oci::{process, seccomp};

/// Made-up names are tried this often before the server says that names are short.
const NAME_TRIES: usize = 20;

/// What an idempotency key leads to.
pub(super) enum Turn<T> {
    /// The call is the first, or has no key.
    Act(Option<Claim>),
    /// The call was answered before.
    Replay(T),
}

impl Engine {
    /// Checks everything and changes nothing. The returned container's id means nothing.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn validate(&self, create: CreateContainer) -> Result<Container, Error> {
        if let Some(name) = &create.name
            && let Some(existing) = self.core.registry.name_holder(name)
        {
            return Err(Error::NameInUse {
                name: name.clone(),
                existing: existing.to_string(),
            });
        }
        self.draft(&create, None, None)
    }

    /// Creates, and starts if asked to. On an error nothing remains.
    ///
    /// # Errors
    /// What is wrong with the request, the image, the name, the backend or the launch.
    pub async fn create(
        &self,
        call: Call,
        create: CreateContainer,
    ) -> Result<Answer<Arc<Container>>, Error> {
        self.once(call, async |cause, claim| {
            self.core.require_backend()?;
            if let Some(pulling) = self.pull_before(&cause, &create)? {
                pulling.end().await?;
            }
            let container = self.draft(&create, Some(cause), claim.as_ref())?;
            let (container, mailbox) = self.enter(container, &create)?;
            let (reply, answer) = oneshot::channel();
            let creation = Creation {
                span: tracing::Span::current(),
                claim,
                reply,
            };
            let id = container.id.to_string();
            actor::create(&self.core, container, mailbox, creation);
            self.core.answered(answer, &id).await
        })
        .await
    }

    /// The record of a container to be.
    fn draft(
        &self,
        create: &CreateContainer,
        cause: Option<Cause>,
        claim: Option<&Claim>,
    ) -> Result<Container, Error> {
        let image = self
            .core
            .images
            .find_for(&create.spec.image, create.platform.as_ref())?;
        if let Seccomp::Json { json } = &create.spec.security.seccomp {
            // Refused before anything is made, and by a mere validation as well.
            seccomp::parse(json)
                .map_err(|error| BackendError::Launch(SpecError::from(error).into()))?;
        }
        let process = process::process(&create.spec.process, &image.config, &image.accounts)?;
        if let Network::Container { container } = &create.spec.network {
            self.core.registry.find(container)?;
        }
        let operation = if create.start {
            Operation::CreateAndStart
        } else {
            Operation::Create
        };
        let intent = Intent {
            cause,
            key: claim.map(|claim| claim.key().clone()),
            operation,
        };
        let now = SystemTime::now();
        Ok(Container {
            id: ContainerId::generate(),
            name: create.name.clone().unwrap_or_default().into(),
            labels: Arc::new(create.labels.clone()),
            spec: Arc::new(self.with_defaults(&create.spec)),
            process: Arc::new(process),
            image: Arc::new(image_use(&image, &create.spec.image)),
            root: Arc::default(),
            state: State::Creating,
            run: Run::default(),
            pid: None,
            exit_status: None,
            failure: None,
            stop: None,
            intent: Some(intent),
            signaled: None,
            terminal_size: None,
            leash: None,
            create_time: now,
            start_time: None,
            update_time: now,
            generation: 0,
            last_event: Sequence::default(),
            runs: Arc::default(),
        })
    }

    /// What the request leaves to the server.
    fn with_defaults(&self, spec: &ContainerSpec) -> ContainerSpec {
        let grace = spec.stop_grace_period;
        ContainerSpec {
            stop_grace_period: grace.or(Some(self.core.settings.stop_grace_period)),
            ..spec.clone()
        }
    }

    /// Enters the container under its name, or under one that is made up.
    fn enter(
        &self,
        mut container: Container,
        create: &CreateContainer,
    ) -> Result<(Container, actor::Mailbox), Error> {
        let limit = self.core.settings.max_containers;
        let mut tries = 0;
        loop {
            if create.name.is_none() {
                container.name = names::make_up().into();
            }
            let (entry, mailbox) = actor::channels(&container);
            match self.core.registry.insert(&container, entry, limit) {
                Ok(()) => return Ok((container, mailbox)),
                Err(Error::NameInUse { .. }) if create.name.is_none() && tries < NAME_TRIES => {
                    tries += 1
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes name, labels or limits. Without any change the container comes back as it was.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::EtagMismatch`], state, backend.
    pub async fn update(
        &self,
        cause: Cause,
        key: &str,
        update: UpdateContainer,
    ) -> Result<Arc<Container>, Error> {
        update::check_labels(&self.get(key)?.labels, &update)?;
        self.core
            .ask(key, |reply| Order::Update {
                cause,
                update,
                reply,
            })
            .await
    }

    /// Removes it. The name is free when this returns.
    ///
    /// # Errors
    /// [`Error::StillRunning`] without force, [`Error::EtagMismatch`], backend.
    pub async fn delete(
        &self,
        cause: Cause,
        key: &str,
        delete: DeleteContainer,
    ) -> Result<(), Error> {
        let deleted = self
            .core
            .ask(key, |reply| Order::Delete {
                cause,
                delete,
                reply,
            })
            .await;
        match deleted {
            // Another call has just done it: it is gone, as was asked for.
            Err(Error::DeletedConcurrently { .. }) if self.get(key).is_err() => Ok(()),
            deleted => deleted,
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Error::RunChanged`], state, launch, backend.
    pub async fn start(
        &self,
        call: Call,
        key: &str,
        expected_run: Option<Run>,
    ) -> Result<Answer<Started>, Error> {
        self.once(call, async |cause, claim| {
            let order = |reply| {
                Order::Start(StartOrder {
                    cause,
                    expected_run,
                    claim,
                    reply,
                })
            };
            self.core.ask(key, order).await
        })
        .await
    }

    /// Stops it; answers once its exit is committed.
    ///
    /// # Errors
    /// [`Error::StopTimedOut`], [`Error::RunChanged`], backend.
    pub async fn stop(
        &self,
        cause: Cause,
        key: &str,
        stop: StopContainer,
    ) -> Result<Stopped, Error> {
        self.core
            .ask(key, |reply| Order::Stop { cause, stop, reply })
            .await
    }

    /// Stops and starts it; only starts it if it does not run.
    ///
    /// # Errors
    /// As [`Self::stop`] and [`Self::start`].
    pub async fn restart(
        &self,
        call: Call,
        key: &str,
        stop: StopContainer,
    ) -> Result<Answer<Arc<Container>>, Error> {
        self.once(call, async |cause, claim| {
            let order = |reply| Order::Restart {
                cause,
                stop,
                claim,
                reply,
            };
            self.core.ask(key, order).await
        })
        .await
    }

    /// Sends one signal.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::RunChanged`], backend.
    pub async fn signal(
        &self,
        call: Call,
        key: &str,
        signal: Signal,
        scope: SignalScope,
        expected_run: Option<Run>,
    ) -> Result<Answer<()>, Error> {
        self.once(call, async |cause, claim| {
            let order = |reply| {
                Order::Signal(SignalOrder {
                    cause,
                    signal,
                    scope,
                    expected_run,
                    claim,
                    reply,
                })
            };
            self.core.ask(key, order).await
        })
        .await
    }

    /// Freezes it; false if it was frozen.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::RunChanged`], backend.
    pub async fn pause(
        &self,
        cause: Cause,
        key: &str,
        expected_run: Option<Run>,
    ) -> Result<bool, Error> {
        self.core
            .ask(key, |reply| Order::Pause {
                cause,
                expected_run,
                reply,
            })
            .await
    }

    /// Thaws it; false if it was not frozen.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::RunChanged`], backend.
    pub async fn resume(
        &self,
        cause: Cause,
        key: &str,
        expected_run: Option<Run>,
    ) -> Result<bool, Error> {
        self.core
            .ask(key, |reply| Order::Resume {
                cause,
                expected_run,
                reply,
            })
            .await
    }

    /// The processes inside, by pid.
    ///
    /// # Errors
    /// [`Error::NotRunning`], backend.
    pub async fn processes(&self, key: &str) -> Result<Vec<ProcessInfo>, Error> {
        let mut pids = self
            .core
            .ask(key, |reply| Order::ListProcesses { reply })
            .await?;
        pids.sort_unstable();
        let read = move || pids.into_iter().filter_map(proc::process_info).collect();
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Error::Bug {
                what: "reading processes was interrupted",
            })
    }

    /// Does `act` with the call's cause and claim, unless the call was answered before: then that answer
    /// stands.
    pub(super) async fn once<T: DeserializeOwned>(
        &self,
        call: Call,
        act: impl AsyncFnOnce(Cause, Option<Claim>) -> Result<T, Error>,
    ) -> Result<Answer<T>, Error> {
        match self.turn(&call).await? {
            Turn::Replay(value) => Ok(Answer {
                value,
                replayed: true,
            }),
            Turn::Act(claim) => Ok(Answer {
                value: act(call.cause, claim).await?,
                replayed: false,
            }),
        }
    }

    /// Claims the call's idempotency key, if it has one, waiting for an earlier call with it to end.
    pub(super) async fn turn<T: DeserializeOwned>(&self, call: &Call) -> Result<Turn<T>, Error> {
        let Some(request) = &call.deduplication else {
            return Ok(Turn::Act(None));
        };
        loop {
            match self
                .core
                .idempotency
                .claim(request, &call.cause.request_id)?
            {
                Claimed::New(claim) => return Ok(Turn::Act(Some(claim))),
                Claimed::Answered(answer) => return idempotency::decode(&answer).map(Turn::Replay),
                Claimed::UnderWay {
                    mut over,
                    first_request_id,
                } => {
                    let ended = over.changed();
                    if let Some(deadline) = call.deadline {
                        // Just before the deadline, so that the caller hears why.
                        let patience = deadline.checked_sub(JOIN_MARGIN).unwrap_or(deadline);
                        if tokio::time::timeout_at(patience, ended).await.is_err() {
                            return Err(Error::IdempotentRequestInProgress {
                                key: request.key.key.to_string(),
                                first_request_id: first_request_id.to_string(),
                            });
                        }
                    } else {
                        // Closed is what is waited for.
                        let _ = ended.await;
                    }
                }
            }
        }
    }
}

/// How long before its deadline a call stops waiting for another one.
const JOIN_MARGIN: std::time::Duration = std::time::Duration::from_millis(50);

fn image_use(image: &Image, asked: &str) -> ImageUse {
    ImageUse {
        reference: super::image::normalized(asked),
        id: image.id.clone(),
        chain_id: image.chain_id.clone(),
        stop_signal: image.config.stop_signal,
    }
}
