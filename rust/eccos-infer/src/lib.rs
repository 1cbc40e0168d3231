//! What stands between a text and its forecast, apart from the encoder: word pieces before it, nearest labelled
//! queries and calibration after it.
//!
//! - [`WordPieces`]: the ids of plain texts, as BERT's tokeniser gives them.
//! - [`Vectors`]: exact search among unit vectors kept in half precision; [`SharedVectors`] for several threads.
//! - [`neighbour_sums`] and [`Forecaster`]: labels of neighbours and outputs of heads to quality and tokens.
//!
//! Nothing here prints, keeps global state or knows Python. The numpy twins are `predict/labels.py`,
//! `predict/calibration.py` and the `tokenizers` package; the Python tests compare.

mod forecast;
mod labels;
mod nearest;
mod pieces;

pub use forecast::{Calibration, Forecast, Forecaster, Heads, Neighbours, Shrinkage};
pub use labels::{NeighbourSums, neighbour_sums};
pub use nearest::{Found, SharedVectors, Vectors};
pub use pieces::{Vocabulary, WordPieces};

/// Arrays or settings that do not fit each other; says which and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ShapeError(String);

impl ShapeError {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}
