//! Labels of neighbours, added up.

use crate::ShapeError;

/// What [`neighbour_sums`] returns.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourSums {
    /// Weighted sums of the packed labels, (N, C).
    pub sums: Vec<f32>,
    /// Similarity of the nearest neighbour, (N,).
    pub best: Vec<f32>,
}

/// Adds up the packed labels (n, C) of K neighbours for each of N queries, nearest first, each weighted by
/// exp((similarity - best) / temperature).
///
/// `shape` is (N, K, C); `similarity` and `index` are (N, K). In single precision and in the order of the
/// neighbours, as `predict/labels.py` says it in numpy.
///
/// # Errors
///
/// If a length does not fit `shape`, or a neighbour is no row of the labels.
pub fn neighbour_sums(
    packed: &[f32],
    similarity: &[f32],
    index: &[i64],
    shape: (usize, usize, usize),
    temperature: f32,
) -> Result<NeighbourSums, ShapeError> {
    let (queries, neighbours, width) = shape;
    let fits = neighbours > 0 && width > 0 && packed.len().is_multiple_of(width);
    if !fits || similarity.len() != queries * neighbours || index.len() != similarity.len() {
        return Err(ShapeError::new("the shape of similarity, index or labels does not fit"));
    }
    let mut sums = vec![0.0; queries * width];
    let per_query = similarity.chunks_exact(neighbours).zip(index.chunks_exact(neighbours));
    for (sum, (near, index)) in sums.chunks_exact_mut(width).zip(per_query) {
        for (&similarity, &row) in near.iter().zip(index) {
            let labels = row_of(packed, row, width)
                .ok_or_else(|| ShapeError::new(format!("neighbour {row} is no row of the labels")))?;
            let weight = ((similarity - near[0]) / temperature).exp();
            for (sum, label) in sum.iter_mut().zip(labels) {
                *sum += weight * label;
            }
        }
    }
    Ok(NeighbourSums { sums, best: similarity.iter().copied().step_by(neighbours).collect() })
}

fn row_of(packed: &[f32], row: i64, width: usize) -> Option<&[f32]> {
    let start = usize::try_from(row).ok()?.checked_mul(width)?;
    packed.get(start..start.checked_add(width)?)
}
