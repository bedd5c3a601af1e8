//! `EventService`.

use tonic::Code;
use wharf_api::v1;
use wharf_api::v1::watch_events_request::Start;
use wharf_api::v1::watch_events_response::Response;

use super::{Api, refusal};

async fn next(messages: &mut tonic::Streaming<v1::WatchEventsResponse>) -> v1::WatchEventsResponse {
    messages.message().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_watch_sends_the_state_and_then_every_event_with_its_container() {
    let api = Api::new().await;
    api.create(|r| r.name = "first".to_owned()).await;
    let request = v1::WatchEventsRequest {
        start: Some(Start::InitialState(v1::InitialState::default())),
        container_view: Some(2),
        ..Default::default()
    };
    let answer = api.events().watch_events(request).await.unwrap();
    let mut messages = answer.into_inner();

    let started = next(&mut messages).await;
    assert!(
        matches!(started.response, Some(Response::Started(_))),
        "{started:?}"
    );
    let state = next(&mut messages).await;
    let Some(Response::InitialContainer(container)) = state.response else {
        unreachable!("{state:?}");
    };
    assert_eq!((container.name.as_str(), container.spec), ("first", None));
    assert_eq!(state.cursor, "");
    let synced = next(&mut messages).await;
    let all = v1::WatchSynced {
        containers: 1,
        execs: 0,
    };
    assert_eq!(synced.response, Some(Response::Synced(all)));
    assert!(!synced.cursor.is_empty());

    api.create(|r| r.name = "second".to_owned()).await;
    let message = next(&mut messages).await;
    let Some(Response::Event(event)) = message.response else {
        unreachable!("{message:?}");
    };
    assert_eq!(event.r#type(), v1::event::Type::ContainerCreated);
    assert_eq!(event.cause.as_ref().unwrap().principal, "uid:1000");
    assert_eq!(event.cursor, message.cursor);
    assert!(event.container.unwrap().spec.is_some());
    drop(messages);
    api.close().await;
}

#[tokio::test]
async fn a_watch_goes_on_from_a_cursor_and_refuses_what_is_none() {
    let api = Api::new().await;
    let everything = v1::ListContainersRequest::default();
    let list = api.containers().list_containers(everything).await;
    let cursor = list.unwrap().into_inner().cursor;
    let created = api.create(|_| ()).await;
    let from = |cursor: &str| v1::WatchEventsRequest {
        start: Some(Start::Cursor(cursor.to_owned())),
        ..Default::default()
    };
    let answer = api.events().watch_events(from(&cursor)).await.unwrap();
    let mut messages = answer.into_inner();
    next(&mut messages).await;
    let message = next(&mut messages).await;
    let Some(Response::Event(event)) = message.response else {
        unreachable!("{message:?}");
    };
    assert_eq!(event.container_id, created.id);
    assert_eq!(event.container, None);
    for bad in ["", "nonsense"] {
        let refused = refusal(api.events().watch_events(from(bad)).await);
        assert_eq!(
            refused,
            (Code::InvalidArgument, "CURSOR_INVALID".to_owned())
        );
    }
    drop(messages);
    api.close().await;
}

#[tokio::test]
async fn pages_of_events_lead_both_ways() {
    let api = Api::new().await;
    for _ in 0..5 {
        api.create(|_| ()).await;
    }
    let list = async |descending| {
        let mut request = v1::ListEventsRequest {
            page_size: 2,
            descending,
            ..Default::default()
        };
        let mut sequences = Vec::new();
        for _ in 0..20 {
            let page = api
                .events()
                .list_events(request.clone())
                .await
                .unwrap()
                .into_inner();
            sequences.extend(page.events.iter().map(|event| event.sequence));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                return sequences;
            }
        }
        unreachable!("pages without end");
    };
    let up = list(false).await;
    let mut down = list(true).await;
    down.reverse();
    assert!(up.len() >= 5 && up.is_sorted());
    assert_eq!(up, down);
    api.close().await;
}
