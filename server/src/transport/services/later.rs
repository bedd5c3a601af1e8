//! The services that later capabilities bring: each method says METHOD_NOT_SUPPORTED.
//!
//! Every method is named here: one that is added to a proto does not compile until somebody decides
//! what it does.

use tonic::{Request, Response, Status};
use wharf_api::v1;

use super::{Answers, not_supported};
use crate::engine::Engine;

/// The services that are not there yet.
#[derive(Debug, Clone)]
pub(super) struct Later {
    engine: Engine,
}

impl Later {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

/// Implements a service: first its methods with one answer, then those with a stream of answers.
macro_rules! not_yet {
    (
        $module:ident :: $service:ident
        answer { $($method:ident($request:ty) -> $response:ident,)* }
        stream { $($streaming:ident($inbound:ty) -> $stream:ident of $message:ident,)* }
    ) => {
        #[tonic::async_trait]
        impl v1::$module::$service for Later {
            $(
                async fn $method(
                    &self,
                    request: Request<$request>,
                ) -> Result<Response<v1::$response>, Status> {
                    Err(not_supported(&self.engine, &request))
                }
            )*
            $(
                type $stream = Answers<v1::$message>;

                async fn $streaming(
                    &self,
                    request: Request<$inbound>,
                ) -> Result<Response<Self::$stream>, Status> {
                    Err(not_supported(&self.engine, &request))
                }
            )*
        }
    };
}

not_yet! {
    stats_service_server::StatsService
    answer {
        list_stats(v1::ListStatsRequest) -> ListStatsResponse,
    }
    stream {
        stream_stats(v1::StreamStatsRequest) -> StreamStatsStream of StreamStatsResponse,
    }
}
