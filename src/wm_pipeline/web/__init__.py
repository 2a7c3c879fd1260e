"""The dream as a page to play on, in any browser."""
