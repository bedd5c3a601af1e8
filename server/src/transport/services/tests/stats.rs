//! What containers use, as a client sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::Code;
use wharf_api::v1;
use wharf_api::v1::stats_service_client::StatsServiceClient;

use super::{Api, Channel, refusal};
use crate::model::Usage;
use crate::model::usage::{CpuUsage, IoUsage, MemoryUsage};

impl Api {
    fn stats(&self) -> StatsServiceClient<Channel> {
        StatsServiceClient::new(self.channel())
    }

    async fn list_stats(&self, request: v1::ListStatsRequest) -> v1::ListStatsResponse {
        self.stats().list_stats(request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn a_sample_says_whose_it_is_and_what_was_used() {
    let api = Api::new().await;
    let labels: BTreeMap<_, _> = [("a".to_owned(), "b".to_owned())].into();
    let created = api
        .create(|request| {
            request.start = true;
            request.labels = labels.clone();
        })
        .await;
    let usage = Usage {
        cpu: CpuUsage {
            total: Duration::from_millis(2_500),
            user: Duration::from_secs(2),
            system: Duration::from_millis(500),
            throttled: Duration::from_nanos(1),
        },
        memory: MemoryUsage {
            usage_bytes: 5,
            working_set_bytes: 4,
            limit_bytes: None,
            swap_bytes: 3,
            oom_kills: 2,
        },
        io: IoUsage {
            read_bytes: 1,
            write_bytes: 2,
            read_ops: 3,
            write_ops: 4,
        },
        pids: 7,
    };
    api.backend.uses(created.id.parse().unwrap(), usage);
    let mut listed = api.list_stats(v1::ListStatsRequest::default()).await.stats;
    let shown = listed.pop().unwrap();
    assert!(listed.is_empty());
    let time = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    assert!(shown.sample_time.is_some());
    let expected = v1::ContainerStats {
        container_id: created.id,
        container_name: created.name,
        image: created.image,
        labels,
        run: 1,
        start_time: created.start_time,
        sample_time: shown.sample_time,
        cpu: Some(v1::CpuStats {
            usage: time(2, 500_000_000),
            user: time(2, 0),
            system: time(0, 500_000_000),
            throttled: time(0, 1),
            cores: None,
        }),
        memory: Some(v1::MemoryStats {
            usage_bytes: 5,
            working_set_bytes: 4,
            limit_bytes: None,
            swap_bytes: 3,
            oom_kills: 2,
        }),
        io: Some(v1::IoStats {
            read_bytes: 1,
            write_bytes: 2,
            read_ops: 3,
            write_ops: 4,
        }),
        networks: Vec::new(),
        pids: 7,
    };
    assert_eq!(shown, expected);
    api.close().await;
}

/// Sixty labels of 1,000 bytes: 34 samples of such containers are a page.
fn heavy(request: &mut v1::CreateContainerRequest) {
    request.start = true;
    let label = |n: i32| (format!("label{n}"), "x".repeat(1_000));
    request.labels = (0..60).map(label).collect();
}

#[tokio::test]
async fn pages_and_messages_end_at_two_mebibytes_too() {
    let api = Api::new().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(api.create(heavy).await.id);
    }
    let mut request = v1::ListStatsRequest::default();
    let first = api.list_stats(request.clone()).await;
    assert_eq!(first.stats.len(), 34);
    request.page_token = first.next_page_token;
    let second = api.list_stats(request.clone()).await;
    assert_eq!(second.next_page_token, "");
    let listed = first.stats.into_iter().chain(second.stats);
    let listed: Vec<_> = listed.map(|stats| stats.container_id).collect();
    assert_eq!(listed, ids);

    request.filter = Some(v1::ContainerFilter::default());
    let refused = refusal(api.stats().list_stats(request).await);
    let expected = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned());
    assert_eq!(refused, expected);

    let request = v1::StreamStatsRequest::default();
    let answered = api.stats().stream_stats(request).await;
    let mut messages = answered.unwrap().into_inner();
    let mut parts = Vec::new();
    for _ in 0..2 {
        let part = messages.message().await.unwrap().unwrap();
        parts.push((part.round, part.stats.len(), part.round_end));
    }
    assert_eq!(parts, [(1, 34, false), (1, 6, true)]);
    drop(messages);
    api.close().await;
}

#[tokio::test]
async fn an_empty_round_is_a_message() {
    let api = Api::new().await;
    let request = v1::StreamStatsRequest {
        interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 100_000_000,
        }),
        ..Default::default()
    };
    let answered = api.stats().stream_stats(request).await;
    let mut messages = answered.unwrap().into_inner();
    for round in 1..=3 {
        let message = messages.message().await.unwrap().unwrap();
        let expected = v1::StreamStatsResponse {
            stats: Vec::new(),
            round,
            round_end: true,
        };
        assert_eq!(message, expected);
    }
    drop(messages);
    api.close().await;
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let api = Api::new().await;
    let request = v1::StreamStatsRequest {
        interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 99_999_999,
        }),
        ..Default::default()
    };
    let refused = refusal(api.stats().stream_stats(request).await);
    let expected = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
    assert_eq!(refused, expected);
    api.backend.disconnect();
    let expected = (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned());
    let request = v1::ListStatsRequest::default();
    assert_eq!(refusal(api.stats().list_stats(request).await), expected);
    let request = v1::StreamStatsRequest::default();
    assert_eq!(refusal(api.stats().stream_stats(request).await), expected);
    api.close().await;
}
