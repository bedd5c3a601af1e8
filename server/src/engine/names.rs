//! Made-up names: two words and a number, such as `calm-heron-417`.

use uuid::Uuid;

const QUALITIES: [&str; 32] = [
    "amber", "ample", "brave", "brisk", "calm", "clear", "crisp", "deep", "eager", "early", "even",
    "fair", "fleet", "fond", "glad", "grand", "keen", "kind", "lucid", "mild", "neat", "noble",
    "quick", "quiet", "ready", "sharp", "sound", "steady", "swift", "tidy", "warm", "wise",
];
const THINGS: [&str; 32] = [
    "anchor", "barge", "beacon", "bollard", "buoy", "canal", "cape", "capstan", "crane", "delta",
    "dock", "dune", "ferry", "fjord", "gull", "harbor", "hawser", "heron", "jetty", "keel",
    "lagoon", "lock", "mast", "mooring", "pier", "pilot", "quay", "reef", "sail", "shoal", "skiff",
    "tide",
];

/// A name that is probably free: a million there are.
pub(crate) fn make_up() -> String {
    let random = Uuid::new_v4();
    let bytes = random.as_bytes();
    let quality = QUALITIES[usize::from(bytes[0]) % QUALITIES.len()];
    let thing = THINGS[usize::from(bytes[1]) % THINGS.len()];
    let number = u16::from_be_bytes([bytes[2], bytes[3]]) % 1000;
    format!("{quality}-{thing}-{number}")
}
