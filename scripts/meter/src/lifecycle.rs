//! Containers from their making to their end.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use wharf_client::Client;
use wharf_client::v1::network_spec::Mode;
use wharf_client::v1::{
    ContainerSpec, CreateContainerRequest, DeleteContainerRequest, ListContainersRequest,
    NetworkSpec, NoNetwork, ProcessSpec, RunContainerStart, StopContainerRequest,
    WaitContainerRequest,
};

use crate::{Reading, Result, owned, read};

/// A connection, and what the containers that are made on it have in common.
#[derive(Debug, Clone)]
pub(crate) struct Lifecycle {
    pub(crate) client: Client,
    image: String,
    /// Empty for the server's.
    runtime: String,
}

impl Lifecycle {
    pub(crate) fn new(client: Client, image: String, runtime: String) -> Self {
        Self {
            client,
            image,
            runtime,
        }
    }

    /// The same on a connection of its own.
    async fn on_another_connection(&self) -> Result<Self> {
        let client = Client::connect(self.client.address().clone()).await?;
        Ok(Self {
            client,
            ..self.clone()
        })
    }

    fn spec(&self, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            image: self.image.clone(),
            runtime: self.runtime.clone(),
            process: Some(ProcessSpec {
                args: owned(command),
                ..Default::default()
            }),
            network: Some(NetworkSpec {
                mode: Some(Mode::None(NoNetwork {})),
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn run(&self, name: &str, command: &[&str]) -> Result<Reading> {
        let session = self.client.run_container(RunContainerStart {
            name: name.to_owned(),
            spec: Some(self.spec(command)),
            ..Default::default()
        });
        let reading = read(session).await?;
        self.delete(name).await?;
        Ok(reading)
    }

    pub(crate) async fn life(&self, name: &str, command: &[&str]) -> Result<Reading> {
        self.start(name, command).await?;
        let wait = WaitContainerRequest {
            container: name.to_owned(),
            ..Default::default()
        };
        let ended = self.client.wait(wait).await?;
        self.delete(name).await?;
        Ok(Reading {
            items: 1,
            code: ended.exit_status.unwrap_or_default().code,
            ..Default::default()
        })
    }

    pub(crate) async fn start(&self, name: &str, command: &[&str]) -> Result<Reading> {
        let create = CreateContainerRequest {
            name: name.to_owned(),
            spec: Some(self.spec(command)),
            start: true,
            ..Default::default()
        };
        self.client.call(create).await?;
        Ok(Reading::default())
    }

    pub(crate) async fn stop(&self, name: &str) -> Result<Reading> {
        let stop = StopContainerRequest {
            container: name.to_owned(),
            ..Default::default()
        };
        let stopped = self.client.call(stop).await?;
        Ok(Reading {
            code: stopped.exit_status.unwrap_or_default().code,
            ..Default::default()
        })
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<Reading> {
        let delete = DeleteContainerRequest {
            container: name.to_owned(),
            force: true,
            ..Default::default()
        };
        self.client.call(delete).await?;
        Ok(Reading::default())
    }

    pub(crate) async fn list(&self) -> Result<Reading> {
        let request = ListContainersRequest {
            page_size: 1_000,
            ..Default::default()
        };
        let containers = self.client.pages(request).collect().await?;
        Ok(Reading {
            items: containers.len() as u64,
            ..Default::default()
        })
    }
}

/// Whole lives on so many connections at once, until the time is over and those under way have ended.
pub(crate) async fn lives(
    lifecycle: &Lifecycle,
    connections: usize,
    seconds: u64,
    command: &[&str],
) -> Result<Reading> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut workers = JoinSet::new();
    for worker in 0..connections {
        let lifecycle = lifecycle.on_another_connection().await?;
        let command = owned(command);
        workers.spawn(async move {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let mut lived = 0;
            while Instant::now() < until {
                let name = format!("life-{worker}-{lived}");
                let reading = lifecycle.life(&name, &command).await?;
                if reading.code != 0 {
                    return Err(format!("{name} has ended with {}", reading.code).into());
                }
                lived += 1;
            }
            Result::Ok(lived)
        });
    }
    let mut reading = Reading::default();
    while let Some(lived) = workers.join_next().await {
        reading.items += lived??;
    }
    Ok(reading)
}
