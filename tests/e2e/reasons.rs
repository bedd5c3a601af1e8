//! Every error reason, produced: by a real call, by a call with an injected fault, or, so that none is
//! forgotten, by a capability that is still to come. [`case`] is the table; a reason that is not in it
//! does not compile.
//!
//! What comes back is compared with `docs/errors.md` wherever an error turns up in these tests (see
//! `harness::refusal`): code, details, metadata keys, request id, retry delay. Nothing reads a message.

mod broken;
mod by_fake;
mod by_proxy;
mod by_registry;
mod calls;
mod execs;
mod in_process;
mod launches;
mod worlds;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::FutureExt as _;
use wharf_api::ErrorReason;

use crate::harness::error_table;
use crate::harness::proxy::Proxy;
use crate::harness::{Client, Refusal, containerd_only, scenario};
use by_fake::FakeServer;
use by_proxy::Between;
use by_registry::Behind;

type Made<'a> = Pin<Box<dyn Future<Output = Refusal> + 'a>>;

/// What produces a reason.
enum Case {
    /// A call to a server and a containerd that are well.
    Call(for<'a> fn(&'a Client) -> Made<'a>),
    /// A call while the way to containerd misbehaves.
    Proxy(for<'a> fn(&'a Client, &'a Between) -> Made<'a>),
    /// A pull from a registry that refuses or misbehaves.
    Registry(for<'a> fn(&'a Client, &'a Behind) -> Made<'a>),
    /// A call to a server and a containerd in a condition of their own. Gets the request id to use.
    World(fn(&str) -> Refusal),
    /// A call to the server's own parts, put together over a backend with faults to inject.
    Fake(for<'a> fn(&'a FakeServer, &'a Client) -> Made<'a>),
    /// A call to a service with a bug, behind the server's own layers.
    Broken(for<'a> fn(&'a Client) -> Made<'a>),
    /// Nothing yet can lead to it.
    Later(Capability),
}

/// What is still to be built, and brings its reasons with it.
#[derive(Debug, Clone, Copy)]
enum Capability {
    /// Credentials, roles, policies of listeners.
    Security,
    /// Limits of callers.
    Quotas,
}

macro_rules! made {
    (Call, $produce:path) => {
        Case::Call(|client| Box::pin($produce(client)))
    };
    (Broken, $produce:path) => {
        Case::Broken(|client| Box::pin($produce(client)))
    };
    (Proxy, $produce:path) => {
        Case::Proxy(|client, between| Box::pin($produce(client, between)))
    };
    (Registry, $produce:path) => {
        Case::Registry(|client, behind| Box::pin($produce(client, behind)))
    };
    (Fake, $produce:path) => {
        Case::Fake(|server, client| Box::pin($produce(server, client)))
    };
}

#[rustfmt::skip] // A table: one reason, one row.
fn case(reason: ErrorReason) -> Case {
    use Capability::{Quotas, Security};
    use Case::{Later, World};
    use ErrorReason as R;
    match reason {
        R::Unspecified => panic!("is no reason"),
        R::InvalidField => made!(Call, calls::invalid_field),
        R::StreamProtocol => made!(Call, calls::stream_protocol),
        R::PageTokenInvalid => made!(Call, calls::page_token_invalid),
        R::CursorInvalid => made!(Call, calls::cursor_invalid),
        R::IdempotencyKeyMismatch => made!(Call, calls::idempotency_key_mismatch),
        R::RequestTooLarge => made!(Call, calls::request_too_large),
        R::ContainerNotFound => made!(Call, calls::container_not_found),
        R::ExecNotFound => made!(Call, execs::not_found),
        R::ImageNotFound => made!(Call, calls::image_not_found),
        R::RegistryImageNotFound => made!(Registry, by_registry::image_not_found),
        R::PlatformNotFound => made!(Call, calls::platform_not_found),
        R::PathNotFound => made!(Call, calls::path_not_found),
        R::LogNotFound => made!(Call, calls::log_not_found),
        R::ContainerNameInUse => made!(Call, calls::container_name_in_use),
        R::ImageReferenceInUse => made!(Call, calls::image_reference_in_use),
        R::ContainerNotRunning => made!(Call, calls::container_not_running),
        R::ContainerRunning => made!(Call, calls::container_running),
        R::ContainerPaused => made!(Call, calls::container_paused),
        R::ContainerFailed => World(worlds::container_failed),
        R::ConditionUnreachable => made!(Call, calls::condition_unreachable),
        R::RunChanged => made!(Call, calls::run_changed),
        R::ExecAlreadyStarted => made!(Call, execs::already_started),
        R::ExecNotRunning => made!(Call, execs::not_running),
        R::TerminalNotAllocated => made!(Call, execs::terminal_not_allocated),
        R::StdinNotOpen => made!(Call, execs::stdin_not_open),
        R::ImageInUse => made!(Call, calls::image_in_use),
        R::PathKindMismatch => made!(Call, calls::path_kind_mismatch),
        R::RootReadOnly => made!(Call, calls::root_read_only),
        R::ExecutableNotFound => made!(Call, launches::executable_not_found),
        R::ExecutableNotPermitted => made!(Call, launches::executable_not_permitted),
        R::ExecutableFormat => made!(Call, launches::executable_format),
        R::UserNotFound => made!(Call, launches::user_not_found),
        R::WorkingDirInvalid => made!(Call, launches::working_dir_invalid),
        R::DeviceNotFound => made!(Fake, by_fake::device_not_found),
        R::MountFailed => made!(Call, launches::mount_failed),
        R::SecurityProfileInvalid => made!(Call, launches::security_profile_invalid),
        R::RuntimeNotFound => made!(Call, launches::runtime_not_found),
        R::RuntimeStartFailed => made!(Call, launches::runtime_start_failed),
        R::KernelFeatureMissing => made!(Fake, by_fake::kernel_feature_missing),
        R::EtagMismatch => made!(Call, calls::etag_mismatch),
        R::OperationInProgress => made!(Call, calls::operation_in_progress),
        R::IdempotentRequestInProgress => made!(Call, calls::idempotent_request_in_progress),
        R::DeletedConcurrently => made!(Call, calls::deleted_concurrently),
        R::CursorExpired => World(worlds::cursor_expired),
        R::CursorEpochChanged => World(worlds::cursor_epoch_changed),
        R::UnauthenticatedCaller => Later(Security),
        R::PermissionDeniedMethod => Later(Security),
        R::PermissionDeniedResource => Later(Security),
        R::PolicyDenied => Later(Security),
        R::RegistryAuthFailed => made!(Registry, by_registry::auth_failed),
        R::TooManyContainers => made!(Fake, by_fake::too_many_containers),
        R::TooManyExecs => made!(Call, execs::too_many),
        R::TooManyStreams => Later(Quotas),
        R::RateLimited => Later(Quotas),
        R::Overloaded => World(worlds::overloaded),
        R::RegistryRateLimited => made!(Registry, by_registry::rate_limited),
        R::NoSpace => World(worlds::no_space),
        R::HostResources => made!(Proxy, by_proxy::host_resources),
        R::BackendUnavailable => made!(Proxy, by_proxy::backend_unavailable),
        R::ServerDraining => World(worlds::server_draining),
        R::ServerStarting => World(worlds::server_starting),
        R::RegistryUnavailable => made!(Registry, by_registry::unavailable),
        R::Deadline => made!(Proxy, by_proxy::deadline),
        R::StopTimedOut => made!(Fake, by_fake::stop_timed_out),
        R::CallerCancelled => made!(Broken, broken::caller_cancelled),
        R::MethodNotSupported => made!(Call, calls::method_not_supported),
        R::OptionNotSupported => made!(Call, calls::option_not_supported),
        R::DigestMismatch => made!(Call, calls::digest_mismatch),
        R::StateCorrupt => World(worlds::state_corrupt),
        R::BackendProtocol => made!(Proxy, by_proxy::backend_protocol),
        R::InternalBug => made!(Broken, broken::internal_bug),
        R::ImageInvalid => made!(Call, calls::image_invalid),
        R::ArchiveInvalid => made!(Call, calls::archive_invalid),
        R::RegistryResponseInvalid => made!(Registry, by_registry::response_invalid),
        R::RegistrySettingsInvalid => made!(Registry, by_registry::settings_invalid),
    }
}

/// The id that a case's calls carry.
fn id_of(reason: ErrorReason) -> String {
    format!("reason/{reason}")
}

/// Produces the reason of every case that `make` has something for. All of them are tried before the
/// test fails.
async fn produce_all<'a>(make: impl Fn(Case, String) -> Option<Made<'a>>) {
    let (mut produced, mut problems) = (0, Vec::new());
    for reason in ErrorReason::all() {
        let id = id_of(reason);
        let Some(made) = make(case(reason), id.clone()) else {
            continue;
        };
        produced += 1;
        match AssertUnwindSafe(made).catch_unwind().await {
            Ok(refusal) => problems.extend(departures(reason, &id, &refusal)),
            // The panic has told.
            Err(_) => problems.push(format!("{reason} was not produced")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(produced > 0, "no case is of this kind");
}

/// In what a refusal differs from what should have been produced, besides what the harness compares.
fn departures(reason: ErrorReason, id: &str, refusal: &Refusal) -> Vec<String> {
    let mut problems = Vec::new();
    if !refusal.is(reason) {
        problems.push(format!("{reason}: {refusal}"));
        return problems;
    }
    if refusal.request_id != id {
        problems.push(format!("{reason}: request id {:?}", refusal.request_id));
    }
    let row = error_table::row(reason.as_str_name()).unwrap();
    for (key, value) in &refusal.metadata {
        if !row.allows(key, value) {
            problems.push(format!("{reason}: {key} is {value:?}"));
        }
    }
    problems
}

#[test]
fn reasons_of_calls_are_produced() {
    scenario(async |world| {
        let client = world.up().await;
        produce_all(|case, id| match case {
            Case::Call(produce) => {
                let client = client.with_id(id);
                Some(Box::pin(async move { produce(&client).await }))
            }
            _ => None,
        })
        .await;
    });
}

#[test]
fn reasons_of_a_backend_that_misbehaves_are_produced() {
    containerd_only("a proxy stands in front of containerd", async |world| {
        let through = world.directory().join("proxy.sock");
        let between = &Between {
            proxy: Proxy::start(&through, &world.containerd.socket()),
            socket: world.wharfd.socket(),
        };
        world.configure(|options| options.containerd = through);
        let client = world.up().await;
        produce_all(|case, id| match case {
            Case::Proxy(produce) => {
                let client = client.with_id(id);
                Some(Box::pin(async move {
                    let refusal = produce(&client, between).await;
                    between.proxy.heal();
                    refusal
                }))
            }
            _ => None,
        })
        .await;
        // The proxy goes with this block.
        world.wharfd.stop().await;
        world.configure(|_| {});
    });
}

#[test]
fn reasons_of_registries_are_produced() {
    scenario(async |world| {
        let behind = &Behind::start(&world.wharfd).await;
        let client = world.up().await;
        produce_all(|case, id| match case {
            Case::Registry(produce) => {
                let client = client.with_id(id);
                Some(Box::pin(async move {
                    let refusal = produce(&client, behind).await;
                    behind.proxy.heal();
                    refusal
                }))
            }
            _ => None,
        })
        .await;
    });
}

#[test]
fn reasons_that_only_a_fake_backend_gives_are_produced() {
    scenario(async |world| {
        let server = &FakeServer::start(world.directory()).await;
        produce_all(|case, id| match case {
            Case::Fake(produce) => {
                let client = server.client().with_id(id);
                Some(Box::pin(async move { produce(server, &client).await }))
            }
            _ => None,
        })
        .await;
        server.stop().await;
    });
}

#[test]
fn reasons_of_bugs_are_produced() {
    scenario(async |world| {
        let server = broken::start(world.directory()).await;
        produce_all(|case, id| match case {
            Case::Broken(produce) => {
                let client = server.client().with_id(id);
                Some(Box::pin(async move { produce(&client).await }))
            }
            _ => None,
        })
        .await;
        server.stop().await;
    });
}

/// One test for each reason that needs a world of its own, so that they run side by side.
macro_rules! of_a_world {
    ($($name:ident: $reason:ident,)*) => {
        $(#[test]
        fn $name() {
            let reason = ErrorReason::$reason;
            let Case::World(produce) = case(reason) else {
                panic!("{reason} is produced elsewhere");
            };
            let id = id_of(reason);
            let problems = departures(reason, &id, &produce(&id));
            assert!(problems.is_empty(), "{problems:?}");
        })*

        const OF_A_WORLD: &[ErrorReason] = &[$(ErrorReason::$reason),*];
    };
}

of_a_world! {
    container_failed_is_produced: ContainerFailed,
    cursor_expired_is_produced: CursorExpired,
    cursor_epoch_changed_is_produced: CursorEpochChanged,
    no_space_is_produced: NoSpace,
    overloaded_is_produced: Overloaded,
    server_draining_is_produced: ServerDraining,
    server_starting_is_produced: ServerStarting,
    state_corrupt_is_produced: StateCorrupt,
}

#[test]
fn every_reason_is_produced_or_waits_for_a_capability() {
    for reason in ErrorReason::all() {
        match case(reason) {
            Case::World(_) => assert!(OF_A_WORLD.contains(&reason), "{reason} has no test"),
            Case::Later(capability) => eprintln!("{reason} comes with {capability:?}"),
            Case::Call(_)
            | Case::Proxy(_)
            | Case::Registry(_)
            | Case::Fake(_)
            | Case::Broken(_) => {}
        }
    }
}
