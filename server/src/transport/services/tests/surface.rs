//! What the server says it has is what it has.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use wharf_api::v1;
use wharf_api::v1::system_service_client::SystemServiceClient;

use super::{Api, raw, reason};
use crate::transport::services::system::capabilities;

#[tokio::test]
async fn each_method_answers_as_its_capability_says() {
    let api = Api::new().await;
    let mut system = SystemServiceClient::new(api.channel());
    let answer = system
        .get_capabilities(v1::GetCapabilitiesRequest {})
        .await
        .unwrap()
        .into_inner();
    let available: HashMap<_, _> = answer
        .capabilities
        .into_iter()
        .map(|capability| (capability.name, capability.available))
        .collect();
    for method in wharf_api::METHODS {
        let answer = raw(&api, method.path, &()).await;
        let unsupported = Status::from_header_map(answer.headers())
            .filter(|status| status.code() == Code::Unimplemented)
            .map(|status| reason(&status));
        let capability = capabilities::of(method.name).unwrap();
        let expected = (!available[capability]).then(|| "METHOD_NOT_SUPPORTED".to_owned());
        assert_eq!(unsupported, expected, "{}", method.path);
    }
    api.close().await;
}

async fn reflect(api: &Api, request: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(api.channel());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let answer = client
        .server_reflection_info(futures_util::stream::iter([request]))
        .await
        .unwrap();
    let message = answer.into_inner().message().await.unwrap().unwrap();
    message.message_response.unwrap()
}

#[tokio::test]
async fn reflection_knows_every_service_and_every_symbol() {
    let api = Api::new().await;
    let list = reflect(&api, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = list else {
        unreachable!("{list:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    let others = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ];
    let services = wharf_api::METHODS.iter().map(|method| method.service);
    for service in services.chain(others) {
        assert!(names.iter().any(|name| name == service), "{service}");
        let symbol = MessageRequest::FileContainingSymbol(service.to_owned());
        let found = reflect(&api, symbol).await;
        assert!(
            matches!(found, MessageResponse::FileDescriptorResponse(_)),
            "{service}: {found:?}"
        );
    }
    api.close().await;
}

#[tokio::test]
async fn health_knows_every_service() {
    let api = Api::new().await;
    let mut client = HealthClient::new(api.channel());
    let mut services = vec![""];
    services.extend(wharf_api::METHODS.iter().map(|method| method.service));
    for serving in [ServingStatus::NotServing, ServingStatus::Serving] {
        if serving == ServingStatus::Serving {
            api.health.serving().await;
        }
        for service in &services {
            let request = HealthCheckRequest {
                service: (*service).to_owned(),
            };
            let status = client.check(request).await.unwrap().into_inner();
            assert_eq!(status.status(), serving, "{service}");
        }
    }
    api.close().await;
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let api = Api::new().await;
    api.create(|_| ()).await;
    let mut system = SystemServiceClient::new(api.channel());
    let version = system
        .get_version(v1::GetVersionRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(version.backend, "fake");
    assert_eq!(version.api_packages, ["wharf.v1"]);

    let info = system
        .get_info(v1::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.principal, "uid:1000");
    assert_eq!(info.containers["STATE_CREATED"], 1);
    assert_eq!(info.containers.values().sum::<u32>(), 1);
    let conditions: Vec<_> = info
        .conditions
        .iter()
        .map(|condition| (condition.r#type.as_str(), condition.status))
        .collect();
    let all_well = [
        ("BackendReady", true),
        ("JournalWritable", true),
        ("StorageHealthy", true),
    ];
    assert_eq!(conditions, all_well);

    api.backend.disconnect();
    let info = system
        .get_info(v1::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(!info.conditions[0].status);
    assert_eq!(info.conditions[0].reason, "DISCONNECTED");
    api.close().await;
}
