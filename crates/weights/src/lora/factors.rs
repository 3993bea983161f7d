//! The change of a weight `[rows, width]` as an adapter stores it, and its rows. The window of a convolution counts as width.
//!
//! | kind | change | source |
//! |---|---|---|
//! | LoRA | B·A | Hu et al. 2021 |
//! | LoRA of a convolution with a core | B·A, with A the product of core and down | LyCORIS `functional/general.py` |
//! | LoHa | (B₁·A₁) ⊙ (B₂·A₂) | LyCORIS `functional/loha.py` |
//! | LoKr | w1 ⊗ w2, each whole or a product | LyCORIS `functional/lokr.py` |
//! | full | a difference | LyCORIS `modules/full.py` |
//!
//! Shapes are checked without an allocation. Values are read once the weight is known to have the shape of the change.

use std::slice;

use super::keys::LoraPart;
use super::module::LoraModule;

/// Ranks that are added at once, so that a row is read and written a quarter as often.
const RANKS: usize = 4;

/// The names of A, B and the core of a product.
type ProductParts = [LoraPart; 3];

const LORA: ProductParts = [LoraPart::A, LoraPart::B, LoraPart::Core];
const HADAMARD: [ProductParts; 2] = [
    [LoraPart::HadaW1B, LoraPart::HadaW1A, LoraPart::HadaT1],
    [LoraPart::HadaW2B, LoraPart::HadaW2A, LoraPart::HadaT2],
];
/// The factors of a Kronecker product: whole, or as a product.
const KRONECKER: [(LoraPart, ProductParts); 2] = [
    (LoraPart::KronW1, [LoraPart::KronW1B, LoraPart::KronW1A, LoraPart::KronT1]),
    (LoraPart::KronW2, [LoraPart::KronW2B, LoraPart::KronW2A, LoraPart::KronT2]),
];

/// The factors of a change.
pub(super) enum LoraFactors {
    LowRank(LowRank),
    Hadamard([LowRank; 2]),
    Kronecker([Dense; 2]),
    Full(Dense),
}

/// B·A, with A `[rank, width]` and B `[rows, rank]`.
pub(super) struct LowRank {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
}

/// A matrix of rows of `width`.
pub(super) struct Dense {
    values: Vec<f32>,
    width: usize,
}

/// The shape of a change and its rank, if it has one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ChangeShape {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) rank: Option<usize>,
}

/// The kinds of changes.
enum Kind {
    LowRank,
    Hadamard,
    Kronecker,
    Full,
}

impl Kind {
    /// Returns the kind of a module's change.
    ///
    /// # Errors
    /// Parts of several kinds, of which one would be left out; the text names one.
    fn of(module: &LoraModule) -> Result<Self, String> {
        let has = |part: &LoraPart| module.get(*part).is_some();
        let kronecker =
            KRONECKER.iter().map(|(whole, parts)| if has(whole) { slice::from_ref(whole) } else { &parts[..] });
        let kronecker: Vec<&[LoraPart]> = kronecker.collect();
        let (kind, used) = match () {
            () if has(&LoraPart::Diff) => (Self::Full, vec![&[LoraPart::Diff][..]]),
            () if HADAMARD.iter().flatten().any(has) => {
                (Self::Hadamard, HADAMARD.iter().map(|parts| &parts[..]).collect())
            }
            () if kronecker.iter().copied().flatten().any(has) => (Self::Kronecker, kronecker),
            () => (Self::LowRank, vec![&LORA[..]]),
        };
        let decomposes = |part: &LoraPart| [LoraPart::Magnitude, LoraPart::DoraScale].contains(part);
        match module
            .parts
            .iter()
            .map(|(part, _)| part)
            .find(|part| !decomposes(part) && !used.iter().any(|parts| parts.contains(part)))
        {
            Some(part) => Err(format!("it has {part} beside parts of another kind")),
            None => Ok(kind),
        }
    }
}

impl ChangeShape {
    /// Checks that the factors of a module fit each other, and returns the shape of their change.
    ///
    /// # Errors
    /// LoraFactors that are missing or do not fit; the text says which.
    pub(super) fn of(module: &LoraModule) -> Result<Self, String> {
        match Kind::of(module)? {
            Kind::LowRank => Self::of_product(module, &LORA),
            Kind::Full => Self::of_whole(module, LoraPart::Diff),
            Kind::Hadamard => {
                let [first, second] = HADAMARD.each_ref().map(|parts| Self::of_product(module, parts));
                let (first, second) = (first?, second?);
                match (first.rows, first.width) == (second.rows, second.width) {
                    true => Ok(first),
                    false => Err(format!(
                        "its products have shapes [{}, {}] and [{}, {}]",
                        first.rows, first.width, second.rows, second.width
                    )),
                }
            }
            Kind::Kronecker => {
                let factor = |(whole, parts): &(LoraPart, ProductParts)| match module.get(*whole).is_some() {
                    true => Self::of_whole(module, *whole),
                    false => Self::of_product(module, parts),
                };
                let (w1, w2) = (factor(&KRONECKER[0])?, factor(&KRONECKER[1])?);
                let sides = w1.rows.checked_mul(w2.rows).zip(w1.width.checked_mul(w2.width));
                let (rows, width) = sides.ok_or("its product is too large")?;
                Ok(Self { rows, width, rank: w1.rank.or(w2.rank) })
            }
        }
    }

    fn of_whole(module: &LoraModule, part: LoraPart) -> Result<Self, String> {
        let [rows, width] = module.flat(part)?;
        Ok(Self { rows, width, rank: None })
    }

    fn of_product(module: &LoraModule, [a, b, core]: &ProductParts) -> Result<Self, String> {
        let ([a_rows, a_width], [b_rows, b_width]) = (module.flat(*a)?, module.flat(*b)?);
        let shapes = || format!("its {a} and {b} have shapes {} and {}", module.shape(*a), module.shape(*b));
        let Some(tensor) = module.get(*core) else {
            return match a_rows == b_width {
                true => Ok(Self { rows: b_rows, width: a_width, rank: Some(a_rows) }),
                false => Err(shapes()),
            };
        };
        module.flat(*core)?;
        // Beside a core, LoHa and LoKr store B as `[rank, rows]`.
        let [rows, rank] = if *core == LoraPart::Core { [b_rows, b_width] } else { [b_width, b_rows] };
        match tensor.shape[..] {
            [outer, inner, ref window @ ..] if outer == rank && inner == a_rows => {
                let width = window.iter().try_fold(a_width, |width, side| width.checked_mul(*side));
                let width = width.ok_or("its product is too large")?;
                Ok(Self { rows, width, rank: Some(a_rows) })
            }
            _ => Err(format!("{}, and its {core} has shape {}", shapes(), module.shape(*core))),
        }
    }
}

impl LoraFactors {
    /// Reads the factors of a module whose shapes are checked.
    pub(super) fn read(module: &LoraModule) -> Self {
        match Kind::of(module).expect("the module is checked") {
            Kind::LowRank => Self::LowRank(LowRank::read(module, &LORA)),
            Kind::Full => Self::Full(Dense::read(module, LoraPart::Diff)),
            Kind::Hadamard => Self::Hadamard(HADAMARD.each_ref().map(|parts| LowRank::read(module, parts))),
            Kind::Kronecker => {
                Self::Kronecker(KRONECKER.each_ref().map(|(whole, parts)| match module.get(*whole).is_some() {
                    true => Dense::read(module, *whole),
                    false => LowRank::read(module, parts).product(),
                }))
            }
        }
    }

    /// Writes one row of the change.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        match self {
            Self::LowRank(product) => product.row(row, out),
            Self::Hadamard([first, second]) => {
                first.row(row, out);
                let mut factor = vec![0.0; out.len()];
                second.row(row, &mut factor);
                out.iter_mut().zip(factor).for_each(|(out, factor)| *out *= factor);
            }
            Self::Kronecker([w1, w2]) => {
                let (outer, inner) = (w1.row(row / w2.rows()), w2.row(row % w2.rows()));
                for (out, outer) in out.chunks_exact_mut(w2.width).zip(outer) {
                    out.iter_mut().zip(inner).for_each(|(out, inner)| *out = outer * inner);
                }
            }
            Self::Full(matrix) => out.copy_from_slice(matrix.row(row)),
        }
    }
}

impl LowRank {
    fn read(module: &LoraModule, [a, b, core]: &ProductParts) -> Self {
        let ([a_rows, a_width], [b_rows, b_width]) = (module.known_flat(*a), module.known_flat(*b));
        let (a, b) = (module.values(*a), module.values(*b));
        let Some(tensor) = module.get(*core) else { return Self { a, b, rank: a_rows } };
        // W[p, r, ..] = Σ core[i, j, ..] · B[p, i] · A[j, r]
        let (b, rank) = match core {
            LoraPart::Core => (b, b_width),
            _ => (crate::transposed(&b, b_rows, b_width), b_rows),
        };
        let (core, window) = (tensor.values(), tensor.shape[2..].iter().product());
        let mut wide = vec![0.0; rank * a_width * window];
        for (wide, core) in wide.chunks_exact_mut(a_width * window).zip(core.chunks_exact(a_rows * window)) {
            for (column, wide) in wide.chunks_exact_mut(window).enumerate() {
                for (row, core) in core.chunks_exact(window).enumerate() {
                    let a = a[row * a_width + column];
                    wide.iter_mut().zip(core).for_each(|(wide, core)| *wide += core * a);
                }
            }
        }
        Self { a: wide, b, rank }
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        let width = out.len();
        out.fill(0.0);
        let b = &self.b[row * self.rank..][..self.rank];
        for (b, a) in b.chunks(RANKS).zip(self.a.chunks(RANKS * width)) {
            if let [b0, b1, b2, b3] = *b {
                let (a01, a23) = a.split_at(2 * width);
                let ((a0, a1), (a2, a3)) = (a01.split_at(width), a23.split_at(width));
                for ((((out, a0), a1), a2), a3) in out.iter_mut().zip(a0).zip(a1).zip(a2).zip(a3) {
                    *out += (b0 * a0 + b1 * a1) + (b2 * a2 + b3 * a3);
                }
            } else {
                for (b, a) in b.iter().zip(a.chunks_exact(width)) {
                    out.iter_mut().zip(a).for_each(|(out, a)| *out += b * a);
                }
            }
        }
    }

    fn product(&self) -> Dense {
        let width = self.a.len() / self.rank;
        let mut values = vec![0.0; self.b.len() / self.rank * width];
        values.chunks_exact_mut(width).enumerate().for_each(|(row, out)| self.row(row, out));
        Dense { values, width }
    }
}

impl Dense {
    fn read(module: &LoraModule, part: LoraPart) -> Self {
        let [_, width] = module.known_flat(part);
        Self { values: module.values(part), width }
    }

    fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }
}
