//! Many clients that do not go on: nobody but other file calls has to wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use wharf_api::ErrorReason as R;
use wharf_api::v1;
use wharf_api::v1::file_service_client::FileServiceClient;
use wharf_server::model::limits::MAX_FILE_CALLS;

use super::BUSY;
use crate::harness::client::answer;
use crate::harness::direct::origin;
use crate::harness::wait::so;
use crate::harness::{Client, scenario, until};

/// More than there are threads that may block, which is 512.
const READERS: usize = 700;
/// Much more than what waits in all the buffers between.
const LARGE: usize = 8 << 20;
const SOON: Duration = Duration::from_secs(120);

/// Clients that begin to read `/large` and do not go on; how many have begun.
async fn stuck_readers(client: &Client, readers: &mut JoinSet<()>) -> Arc<AtomicUsize> {
    let start = v1::WriteFileStart {
        container: "c".to_owned(),
        path: "/large".to_owned(),
        ..Default::default()
    };
    client.write_file(start, vec![b'x'; LARGE]).await.unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    for _ in 0..READERS {
        let (client, begun) = (client.with_deadline(None), Arc::clone(&begun));
        readers.spawn(async move {
            let request = client.request(v1::ReadFileRequest {
                container: "c".to_owned(),
                path: "/large".to_owned(),
            });
            let _messages = answer(client.files().read_file(request).await).unwrap();
            begun.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<()>().await;
        });
    }
    begun
}

#[test]
fn clients_that_do_not_read_hold_up_nothing_else() {
    scenario(async |world| {
        // Unread messages fill a connection's window.
        let (client, theirs) = (world.up().await, Client::of_socket(&world.wharfd.socket()));
        client.run("c", BUSY).await.unwrap();
        let mut readers = JoinSet::new();
        let begun = stuck_readers(&theirs, &mut readers).await;
        until("readers are stuck", SOON, async || {
            let begun = begun.load(Ordering::Relaxed);
            so(begun >= MAX_FILE_CALLS, || format!("{begun} have begun"))
        })
        .await;

        for round in 0..5 {
            let name = format!("other-{round}");
            let all = async {
                client.exec_whole("c", &["true"]).await.unwrap();
                client.run(&name, &["true"]).await.unwrap();
                client.exit_of(&name, 0).await.unwrap();
                client.delete(&name).await.unwrap();
            };
            timeout(SOON, all).await.expect("nothing is held up");
        }

        // Another file call is in line behind them, for as long as it wants to be.
        let stat = v1::StatPathRequest {
            container: "c".to_owned(),
            path: "/large".to_owned(),
        };
        let late = client.with_deadline(Duration::from_secs(1));
        let mut files = FileServiceClient::with_origin(client.direct().await, origin());
        let late = answer(files.stat_path(late.request(stat.clone())).await).unwrap_err();
        assert!(late.is(R::Deadline), "{late}");
        readers.shutdown().await;
        let stat = timeout(SOON, client.stat_path(stat)).await;
        let stat = stat.expect("it is its turn").unwrap().stat.unwrap();
        assert_eq!(stat.size_bytes, i64::try_from(LARGE).unwrap());
    });
}
