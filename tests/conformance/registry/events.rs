//! What the journal says of pulls.

use wharf_api::v1::event::{Detail, Type};
use wharf_api::v1::{Event, EventFilter};

use super::{Behind, reason, up};
use crate::harness::events::cause;
use crate::harness::registry::Access;
use crate::harness::{Client, scenario};

async fn of_type(client: &Client, wanted: Type) -> Vec<Event> {
    let filter = EventFilter {
        types: vec![wanted.into()],
        ..Default::default()
    };
    client.events_where(filter).await
}

fn image_and_cause(events: &[Event]) -> Vec<(&str, Option<&str>)> {
    let events = events.iter();
    events.map(|event| (&*event.image, cause(event))).collect()
}

#[test]
fn a_pull_is_told_by_the_name_that_was_asked_for_though_its_content_is_here_by_another() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let [alpha, zeta] = ["alpha:1", "zeta:1"].map(|name| behind.proxy.reference(name));
        for name in ["alpha:1", "zeta:1"] {
            let pushed = behind.registry.push(&behind.noisy.recipe, name).await;
            assert_eq!(pushed, behind.pushed, "the same content");
        }
        let client = up(world).await;
        client.with_id("first").pull(&alpha).await.unwrap();
        let pulled = client.with_id("second").pull(&zeta).await.unwrap();
        assert_eq!(pulled.image.references, [&*alpha, &*zeta]);
        assert_eq!(
            image_and_cause(&of_type(&client, Type::ImagePulled).await),
            [(&*alpha, Some("first")), (&*zeta, Some("second"))]
        );

        let again = client.with_id("third").pull(&zeta).await.unwrap();
        assert!(!again.changed);
        let events = of_type(&client, Type::ImagePulled).await;
        assert_eq!(events.len(), 2, "nothing was pulled: {events:?}");
    });
}

#[test]
fn a_pull_that_fails_is_told_by_the_name_that_was_asked_for_and_with_its_reason() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let missing = behind.proxy.reference("missing:1");
        let client = up(world).await;
        let refusal = client.with_id("in-vain").pull(&missing).await.unwrap_err();
        let events = of_type(&client, Type::ImagePullFailed).await;
        let expected = [(&*missing, Some("in-vain"))];
        assert_eq!(image_and_cause(&events), expected);
        let Some(Detail::Failure(failure)) = &events[0].detail else {
            panic!("no failure: {events:?}");
        };
        assert_eq!(failure.reason, reason(&refusal));
        assert_eq!(failure.reason, "REGISTRY_IMAGE_NOT_FOUND");
        assert_eq!(of_type(&client, Type::ImagePulled).await, []);
    });
}
