//! pgml
