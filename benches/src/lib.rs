//! Criterion benches of Tidewatch; each file in `benches/` is one. Run them with `cargo xtask bench`.
