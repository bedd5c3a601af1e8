//! Following many containers of a real engine.
