//! Messages as proto3 JSON: lowerCamelCase names, 64-bit numbers as strings, enums by name,
//! RFC 3339 times. Fields at their default are shown, so that scripts find the same keys always.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};
use wharf_client::v1;

use super::failure::Failure;

/// A message that is shown as JSON.
pub(crate) trait Shown: Message {
    /// Its full name.
    const NAME: &'static str;
}

macro_rules! shown {
    ($($message:ident),*) => {$(
        impl Shown for v1::$message {
            const NAME: &'static str = concat!("wharf.v1.", stringify!($message));
        }
    )*};
}

shown!(
    Container,
    ContainerStats,
    Event,
    GetDiskUsageResponse,
    GetInfoResponse,
    GetVersionResponse,
    Image,
    ProcessInfo,
    PruneContainersResponse,
    PruneImagesResponse,
    PullImageResponse,
    PushImageResponse
);

/// A message, ready to be serialised.
#[derive(Debug)]
pub(crate) struct Json(DynamicMessage);

impl Json {
    /// # Errors
    /// [`Failure::Json`] if the message does not fit the API's own description of it.
    pub(crate) fn of<M: Shown>(message: &M) -> Result<Self, Failure> {
        let descriptor = POOL
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|pool| pool.get_message_by_name(M::NAME).ok_or(M::NAME.to_owned()))
            .map_err(Failure::Json)?;
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
            .map(Self)
            .map_err(|error| Failure::Json(error.to_string()))
    }
}

static POOL: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(wharf_api::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())
});

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new().skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_shown_as_proto3_json() {
        let container = v1::Container {
            id: "0af1".into(),
            state: v1::container::State::Exited.into(),
            run: 2,
            exit_status: Some(v1::ExitStatus::default()),
            create_time: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            ..Default::default()
        };
        let json = serde_json::to_value(Json::of(&container).unwrap()).unwrap();
        assert_eq!(json["state"], "STATE_EXITED");
        assert_eq!(json["run"], "2");
        assert_eq!(json["exitStatus"]["code"], 0);
        assert_eq!(json["createTime"], "2026-01-02T03:04:05Z");
        assert_eq!(json["labels"], serde_json::json!({}));
        assert!(json.get("startTime").is_none());
    }
}
