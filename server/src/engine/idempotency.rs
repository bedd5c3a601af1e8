//! Idempotency keys: who holds one, and what the first call with it was answered.
//!
//! A key is claimed before its call has any effect, and the claim is stored in the same transaction
//! as the intent of that effect. It ends in a stored answer, or is given back when nothing was
//! changed; calls that repeat the key meanwhile wait for that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::Error;
use crate::model::limits::IDEMPOTENCY_ENTRIES;
use crate::model::request::{Deduplication, IdempotencyKey};
use crate::model::{ContainerId, RequestId};
use crate::store::{Change, IdempotencyRecord};

/// All keys in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Idempotency {
    keys: Arc<Mutex<HashMap<IdempotencyKey, Known>>>,
}

#[derive(Debug)]
struct Known {
    record: IdempotencyRecord,
    /// Closes when the claim ends; absent once there is an answer.
    claimed: Option<watch::Receiver<()>>,
}

/// What there is to know of a key when a call comes with it.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// It is new, and now this call's.
    New(Claim),
    /// Its call was answered.
    Answered(Arc<[u8]>),
    /// Its call is under way: closes when that is over.
    UnderWay {
        over: watch::Receiver<()>,
        first_request_id: RequestId,
    },
}

/// A key that belongs to a call under way. Dropping it gives the key back.
#[derive(Debug)]
pub(crate) struct Claim {
    book: Idempotency,
    key: IdempotencyKey,
    record: IdempotencyRecord,
    /// Its drop wakes those who wait for the end of this call.
    _under_way: watch::Sender<()>,
}

impl Idempotency {
    /// Takes up what was stored: answered keys. Those of calls that were under way are claimed again
    /// by whoever goes on with them, see [`Self::reclaim`].
    pub(crate) fn restore(&self, stored: Vec<(IdempotencyKey, IdempotencyRecord)>) {
        let answered = stored
            .into_iter()
            .filter(|(_, record)| record.answer.is_some());
        let known = answered.map(|(key, record)| {
            (
                key,
                Known {
                    record,
                    claimed: None,
                },
            )
        });
        self.keys.lock().extend(known);
    }

    /// Claims a key for a call, unless it is in use.
    ///
    /// # Errors
    /// [`Error::IdempotencyKeyMismatch`] if it was used with another request.
    pub(crate) fn claim(
        &self,
        request: &Deduplication,
        request_id: &RequestId,
    ) -> Result<Claimed, Error> {
        let mut keys = self.keys.lock();
        if let Some(known) = keys.get(&request.key) {
            if known.record.request_digest != request.request_digest {
                return Err(Error::IdempotencyKeyMismatch {
                    key: request.key.key.to_string(),
                    first_request_id: known.record.request_id.to_string(),
                });
            }
            let first_request_id = known.record.request_id.clone();
            return Ok(match (&known.record.answer, &known.claimed) {
                (Some(answer), _) => Claimed::Answered(answer.clone()),
                (None, Some(over)) => Claimed::UnderWay {
                    over: over.clone(),
                    first_request_id,
                },
                (None, None) => {
                    return Err(Error::Bug {
                        what: "an idempotency key without a holder",
                    });
                }
            });
        }
        let record = IdempotencyRecord {
            request_digest: request.request_digest,
            request_id: request_id.clone(),
            time: SystemTime::now(),
            container: None,
            answer: None,
        };
        let claim = self.hold(request.key.clone(), record, &mut keys);
        Ok(Claimed::New(claim))
    }

    /// Whether a call with this key has been made.
    pub(crate) fn is_known(&self, request: &Deduplication) -> bool {
        self.keys.lock().contains_key(&request.key)
    }

    /// Claims a key again for a call that the last server did not finish.
    pub(crate) fn reclaim(&self, key: IdempotencyKey, record: IdempotencyRecord) -> Claim {
        self.hold(key, record, &mut self.keys.lock())
    }

    fn hold(
        &self,
        key: IdempotencyKey,
        record: IdempotencyRecord,
        keys: &mut HashMap<IdempotencyKey, Known>,
    ) -> Claim {
        trim(keys);
        let (under_way, over) = watch::channel(());
        keys.insert(
            key.clone(),
            Known {
                record: record.clone(),
                claimed: Some(over),
            },
        );
        Claim {
            book: self.clone(),
            key,
            record,
            _under_way: under_way,
        }
    }

    /// Lets go of keys from before `time`, whose calls are over.
    pub(crate) fn expire(&self, time: SystemTime) {
        self.keys
            .lock()
            .retain(|_, known| known.claimed.is_some() || known.record.time >= time);
    }
}

/// Lets go of the oldest keys whose calls are over, once there are too many. Many at once, as
/// looking for them takes a look at all.
fn trim(keys: &mut HashMap<IdempotencyKey, Known>) {
    if keys.len() < IDEMPOTENCY_ENTRIES + IDEMPOTENCY_ENTRIES / 10 {
        return;
    }
    let over = keys.values().filter(|known| known.claimed.is_none());
    let mut times: Vec<SystemTime> = over.map(|known| known.record.time).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    if let Some(oldest) = times.get(IDEMPOTENCY_ENTRIES - 1).copied() {
        keys.retain(|_, known| known.claimed.is_some() || known.record.time >= oldest);
    }
}

impl Claim {
    /// The key.
    pub(crate) fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// Stores that the call acts on `container`; goes with the intent of its effect.
    pub(crate) fn pending(&mut self, container: ContainerId) -> Change {
        self.record.container = Some(container);
        Change::PutIdempotency(self.key.clone(), self.record.clone())
    }

    /// Stores the answer; goes with the effect. Follow with [`Self::complete`] once committed.
    ///
    /// # Errors
    /// [`Error::Bug`] if the answer cannot be encoded.
    pub(crate) fn answered<T: Serialize>(&mut self, answer: &T) -> Result<Change, Error> {
        let bytes = serde_json::to_vec(answer).map_err(|_| Error::Bug {
            what: "an answer that cannot be encoded",
        })?;
        self.record.answer = Some(bytes.into());
        Ok(Change::PutIdempotency(
            self.key.clone(),
            self.record.clone(),
        ))
    }

    /// Removes what [`Self::pending`] stored: nothing was changed. The key is free once this claim is
    /// dropped.
    pub(crate) fn given_back(&self) -> Change {
        Change::ForgetIdempotency(self.key.clone())
    }

    /// From now on the key gets the stored answer.
    pub(crate) fn complete(self) {
        let mut keys = self.book.keys.lock();
        if let Some(known) = keys.get_mut(&self.key) {
            known.record = self.record.clone();
            known.claimed = None;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut keys = self.book.keys.lock();
        if keys
            .get(&self.key)
            .is_some_and(|known| known.claimed.is_some())
        {
            keys.remove(&self.key);
        }
    }
}

/// Reads a stored answer.
///
/// # Errors
/// [`Error::Bug`] if it is not what the method answers.
pub(crate) fn decode<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|_| Error::Bug {
        what: "a stored answer of another form",
    })
}
