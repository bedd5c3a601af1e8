//! How long the fault tests run: a sample in every `make test`, all of it in `make chaos`.

use std::env;

/// What repeats a run's choices: `WHARF_SEED`, else made up and told.
pub fn seed() -> u64 {
    let seed = number("WHARF_SEED").unwrap_or_else(rand::random);
    eprintln!("WHARF_SEED={seed}");
    seed
}

/// How often something is killed: 25, or `WHARF_CHAOS_ROUNDS`.
pub fn kills() -> u64 {
    number("WHARF_CHAOS_ROUNDS").unwrap_or(25)
}

/// How often a race is run: 25 times, or five times `WHARF_CHAOS_ROUNDS`.
pub fn races() -> u64 {
    number("WHARF_CHAOS_ROUNDS").map_or(25, |rounds| rounds * 5)
}

/// How often it is killed while it pulls: 10 times, or half of `WHARF_CHAOS_ROUNDS`.
pub fn kills_of_pulls() -> u64 {
    number("WHARF_CHAOS_ROUNDS").map_or(10, |rounds| rounds.div_ceil(2))
}

/// Whether it may take long.
pub fn is_long() -> bool {
    number("WHARF_CHAOS_ROUNDS").is_some()
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().expect(variable))
}
