//! Turns, and clients that stand still.

use std::time::Duration;

use tokio::time::advance;

use super::*;
use crate::model::limits::TRANSFER_STALL;

/// Writes more than waits in the channel of an outlet.
fn send_much(mut outlet: Outlet) -> Result<(), FileError> {
    let data = vec![1; 4 << 20];
    outlet
        .write_all(&data)
        .map_err(|error| FileError::of_io(&error, "/file"))?;
    outlet.finish()
}

fn receive_all(upload: tokio::sync::mpsc::Receiver<Piece>, patience: Patience) -> FileError {
    let mut inlet = Inlet::new(upload, patience);
    let read = std::io::copy(&mut inlet, &mut std::io::sink());
    FileError::of_io(&read.unwrap_err(), "/file")
}

#[tokio::test(start_paused = true)]
async fn who_stands_still_is_ended_once_others_wait() {
    let never = CancellationToken::new();
    let turns = Turns::of(1);
    let turn = turns.next(&never).await.unwrap();
    let (outlet, mut chunks) = outlet(turns.patience(never.clone()));
    let (_pieces, upload) = inlet();
    let patience = turns.patience(never.clone());
    let download = spawn_blocking(move || send_much(outlet));
    let upload = spawn_blocking(move || receive_all(upload, patience));
    for _ in 0..100 {
        advance(TRANSFER_STALL).await;
    }
    assert!(!download.is_finished() && !upload.is_finished());

    let waiting = turns.next(&never);
    let mut waiting = std::pin::pin!(waiting);
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    while !download.is_finished() || !upload.is_finished() {
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(download.await.unwrap(), Err(FileError::Stalled));
    assert_eq!(upload.await.unwrap(), FileError::Stalled);
    assert!(chunks.recv().await.is_some(), "what was sent is there");
    drop(turn);
    waiting.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_is_not_ended_whoever_waits() {
    let never = CancellationToken::new();
    let turns = Turns::of(0);
    let (outlet, mut chunks) = outlet(turns.patience(never.clone()));
    let mut waiting = std::pin::pin!(turns.next(&never));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    let download = spawn_blocking(move || send_much(outlet));
    let mut received = 0;
    while let Some(chunk) = chunks.recv().await {
        received += chunk.len();
        advance(TRANSFER_STALL / 2).await;
    }
    assert_eq!(download.await.unwrap(), Ok(()));
    assert_eq!(received, 4 << 20);
}

#[tokio::test]
async fn who_waits_in_line_leaves_when_told_to() {
    let stop = CancellationToken::new();
    let turns = Turns::of(0);
    let mut waiting = std::pin::pin!(turns.next(&stop));
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    stop.cancel();
    assert_eq!(waiting.await.unwrap_err(), FileError::Stopped);
}
