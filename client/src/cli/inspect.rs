//! `wharf inspect`.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;
use wharf_client::v1::{GetContainerRequest, GetImageRequest};
use wharf_client::{Client, Error, ErrorReason};

use super::failure::Failure;
use super::json::Json;
use super::session::Session;

/// Show everything about containers and images, as JSON
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Look only among these
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// As one object per line, not as one indented array
    #[arg(short, long, value_enum)]
    format: Option<Lines>,
    /// Names, ids or references
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Container,
    Image,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Lines {
    Json,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Container(Json),
    Image {
        #[serde(flatten)]
        image: Json,
        /// The image's own OCI config.
        config: Value,
    },
}

impl Inspect {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let client = session.connect().await?;
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for name in &self.names {
            match self.find(&client, name).await {
                Ok(object) => found.push(object),
                Err(failure) => failures.push(failure),
            }
        }
        match self.format {
            // A failure prints nothing but itself.
            None if found.is_empty() => {}
            None => session.output.pretty_json(&found)?,
            Some(Lines::Json) => found
                .iter()
                .try_for_each(|object| session.output.json(object))?,
        }
        for failure in &failures {
            session.output.error(failure);
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Failure::Reported),
        }
    }

    /// A container, else an image, as docker looks for things.
    async fn find(&self, client: &Client, name: &str) -> Result<Found, Failure> {
        match self.kind {
            Some(Kind::Container) => container(client, name).await,
            Some(Kind::Image) => image(client, name).await,
            None => match container(client, name).await {
                Err(Failure::Call(error)) if may_be_image(&error) => {
                    // If it is neither, the first answer is the one to tell.
                    image(client, name).await.map_err(|_| Failure::Call(error))
                }
                result => result,
            },
        }
    }
}

/// An image's reference has characters that a container's name must not have.
fn may_be_image(error: &Error) -> bool {
    matches!(
        error.reason(),
        Some(ErrorReason::ContainerNotFound | ErrorReason::InvalidField)
    )
}

async fn container(client: &Client, name: &str) -> Result<Found, Failure> {
    let request = GetContainerRequest {
        container: name.to_owned(),
        ..Default::default()
    };
    let container = client.call(request).await?.container.unwrap_or_default();
    Ok(Found::Container(Json::of(&container)?))
}

async fn image(client: &Client, name: &str) -> Result<Found, Failure> {
    let request = GetImageRequest {
        image: name.to_owned(),
    };
    let answer = client.call(request).await?;
    let image = Json::of(&answer.image.unwrap_or_default())?;
    let config = match answer.config_json.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&answer.config_json)
            .map_err(|error| Failure::Json(error.to_string()))?,
    };
    Ok(Found::Image { image, config })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use wharf_client::v1::Image;

    #[test]
    fn an_image_is_shown_with_its_config() {
        let image = Image {
            id: "sha256:00".into(),
            ..Default::default()
        };
        let found = Found::Image {
            image: Json::of(&image).unwrap(),
            config: serde_json::json!({"os": "linux"}),
        };
        let shown = serde_json::to_value(found).unwrap();
        assert_eq!(shown["id"], "sha256:00");
        assert_eq!(shown["config"]["os"], "linux");
    }
}
