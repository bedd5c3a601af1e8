//! `wharf update` and `wharf rename`.

use clap::Args;
use prost_types::FieldMask;
use wharf_client::v1::{ContainerUpdate, UpdateContainerRequest};

use super::container_flags::ResourceFlags;
use super::each::each;
use super::failure::Failure;
use super::session::Session;
use super::values;

/// Change limits and labels of containers, also of running ones
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// New name; only for one container
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    resources: ResourceFlags,
    /// Add or replace a label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = values::pair)]
    label: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Give a container another name
#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// Name or id
    container: String,
    /// New name
    name: String,
}

impl Update {
    /// The request for one container. A limit of 0 is sent as none at all.
    pub(crate) fn request(&self, container: String) -> Result<UpdateContainerRequest, Failure> {
        let mask = self.mask();
        if mask.is_empty() && self.label.is_empty() && self.label_rm.is_empty() {
            return Err(Failure::Usage("nothing to change".to_owned()));
        }
        if self.name.is_some() && self.containers.len() > 1 {
            return Err(Failure::Usage(
                "--name gives one name to one container".to_owned(),
            ));
        }
        let limits = mask.iter().any(|path| path.starts_with("resources."));
        Ok(UpdateContainerRequest {
            container,
            update: Some(ContainerUpdate {
                name: self.name.clone().unwrap_or_default(),
                set_labels: self.label.iter().cloned().collect(),
                remove_labels: self.label_rm.clone(),
                // What the mask does not name must not be set.
                resources: limits.then(|| self.resources.limits()),
                ..Default::default()
            }),
            update_mask: (!mask.is_empty()).then_some(FieldMask { paths: mask }),
            ..Default::default()
        })
    }

    /// The paths of what was given; labels need none.
    fn mask(&self) -> Vec<String> {
        let limits = &self.resources;
        let given = [
            (self.name.is_some(), "name"),
            (limits.memory.is_some(), "resources.memory_limit_bytes"),
            (
                limits.memory_reservation.is_some(),
                "resources.memory_reservation_bytes",
            ),
            (limits.cpus.is_some(), "resources.cpu_limit_millicores"),
            (limits.cpuset_cpus.is_some(), "resources.cpuset_cpus"),
            (limits.pids_limit.is_some(), "resources.pids_limit"),
        ];
        let paths = given.into_iter().filter(|(given, _)| *given);
        paths.map(|(_, path)| path.to_owned()).collect()
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let template = self.request(String::new())?;
        each(self.containers, session, |client, container| {
            let request = UpdateContainerRequest {
                container: container.clone(),
                ..template.clone()
            };
            async move {
                client.call(request).await?;
                Ok(vec![container])
            }
        })
        .await
    }
}

impl Rename {
    pub(crate) fn request(self) -> UpdateContainerRequest {
        UpdateContainerRequest {
            container: self.container,
            update: Some(ContainerUpdate {
                name: self.name,
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: vec!["name".to_owned()],
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let client = session.connect().await?;
        client.call(self.request()).await?;
        Ok(())
    }
}
