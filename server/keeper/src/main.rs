//! `wharf-keeper`.

fn main() {}
