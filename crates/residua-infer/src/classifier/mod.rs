//! Inference without tensors: a trained network as a list of steps on plain memory, a few images at a time.
//!
//! [`Classifier`] is made of a network and its weights once: BN is folded into the convolutions it stands behind, or applied while the one
//! it stands before is read; what follows a convolution happens while its results are in registers; weights lie as the kernels
//! read them. A few images go through the whole network before the next ones begin (depth first), so that their feature maps stay in the caches.

mod affine;
mod compile;
mod elementwise;
mod map;
mod packed_weights;
mod permits;
mod program;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::ThreadPool;
use rayon::prelude::*;
use residua_kernels::{Helpers, Instructions, MapShape, with_threads_awake};

use packed_weights::Source;
use permits::Permits;
use program::{Output, Program, Workspace};
use thiserror::Error;

use crate::foreign::{Description, ForeignError};
use crate::network::{NamedTensors, NetworkError, ResNetConfig};
use crate::normalisation::{Normalisation, NormalisationError};
use crate::precision::{Precision, UnavailablePrecision};
use crate::ranges::InputRanges;
use crate::temperature::Temperature;
use crate::weights::{StoredWeights, WeightsError, WeightsInfo};

/// A trained network, ready to classify.
///
/// It can be shared between threads: as many callers compute at once as it was given threads, others wait for their turn. A batch is divided
/// between its threads; so are the convolutions of a few images if their caller is alone, else the caller computes them.
#[derive(Debug)]
pub struct Classifier {
    program: Program,
    /// Images of a pass through the network, at most.
    together: usize,
    /// Images up to which convolutions are divided between the threads.
    few: usize,
    classes: usize,
    temperature: Temperature,
    threads: usize,
    /// For batches.
    pool: ThreadPool,
    /// For a few images of a caller who is alone.
    helpers: Helpers,
    permits: Permits,
    workspaces: Mutex<Vec<Workspace>>,
}

/// How a [`Classifier`] computes. A number of threads alone leaves the precision open.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierOptions {
    /// Threads that compute.
    pub threads: NonZeroUsize,
    /// What they compute in. If nothing is said: in bytes, if the weights are of a network that was exported to int8 and this processor
    /// has fast instructions for them; else in f32.
    pub precision: Option<ClassifierPrecision>,
}

impl From<NonZeroUsize> for ClassifierOptions {
    fn from(threads: NonZeroUsize) -> Self {
        Self { threads, precision: None }
    }
}

impl ClassifierOptions {
    /// The same, with the precision that is best for weights of which this is said, if none is given.
    pub fn for_weights(self, info: &WeightsInfo) -> Self {
        let of_file = || info.ranges.clone().filter(|_| Instructions::current().has_fast_bytes());
        let precision = self.precision.or_else(|| of_file().map(ClassifierPrecision::Int8));
        Self { precision, ..self }
    }
}

/// What a [`Classifier`] computes in.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ClassifierPrecision {
    /// As networks are trained.
    #[default]
    F32,
    /// [`Precision::Bf16`], maps included.
    Bf16,
    /// Convolutions multiply bytes, which stand for the numbers of these ranges, by weights rounded to bytes. Sums are exact, maps between
    /// units of bfloat16, the classifier is of f32.
    Int8(InputRanges),
}

impl ClassifierPrecision {
    /// What the numbers of maps are stored in.
    fn numbers(&self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 | Self::Int8(_) => Precision::Bf16,
        }
    }
}

/// Images of a pass: enough that the last stage, of four tiles an image, fills a matrix product, few enough that feature maps stay in the
/// caches. Large images pass the first stages each by itself.
const TOGETHER: usize = 4;

impl Classifier {
    /// The network of a weight file, and what that says of itself. Images are of the size in there. Of files that Residua has not
    /// written, the network is [recognised](crate::foreign), and the rest is its family's custom.
    ///
    /// # Errors
    /// When there is no such file, it is damaged, or its weights are no network's that is known.
    pub fn load(
        path: &Path,
        options: impl Into<ClassifierOptions>,
    ) -> Result<(Self, WeightsInfo), ClassifierError> {
        let weights = StoredWeights::read(path).map_err(WeightsError::from)?;
        Self::of(weights, options)
    }

    /// The network that weights belong to, and what they say of themselves.
    ///
    /// # Errors
    /// When they do not say it, or are not those of that network.
    pub fn of(
        weights: StoredWeights,
        options: impl Into<ClassifierOptions>,
    ) -> Result<(Self, WeightsInfo), ClassifierError> {
        let (weights, _) = weights.recognised(&Description::default())?;
        let info = weights.info()?;
        let StoredWeights { path, tensors, .. } = weights;
        let Ok(config) = info.network.residual() else {
            return Err(ClassifierError::NotResidual { path, given: info.network.name() });
        };
        let options = options.into().for_weights(&info);
        match Self::new(config, tensors, [info.height, info.width], options) {
            Err(ClassifierError::Network(error)) => Err(StoredWeights::refused(&path, error).into()),
            classifier => {
                let temperature = info.temperature.unwrap_or_default();
                Ok((classifier?.with_temperature(temperature), info))
            }
        }
    }

    /// A network with these tensors, for images of `size`, height and width.
    ///
    /// # Errors
    /// When there is no such network, it does not take such images, a tensor is missing, or the processor does not compute in the
    /// precision.
    pub fn new(
        config: &ResNetConfig,
        tensors: NamedTensors,
        size: [usize; 2],
        options: impl Into<ClassifierOptions>,
    ) -> Result<Self, ClassifierError> {
        let ClassifierOptions { threads, precision } = options.into();
        let precision = precision.unwrap_or_default();
        if precision == ClassifierPrecision::Bf16 {
            Precision::Bf16.check()?;
        }
        config.check_tensors(&tensors)?;
        let refused = |reason: String| ClassifierError::Threads { threads: threads.get(), reason };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
        let pool = pool.map_err(|error| refused(error.to_string()))?;
        let helpers = Helpers::start(threads.get() - 1).map_err(|error| refused(error.to_string()))?;
        let program = Program::of(config, tensors, size, &precision)?;
        let most = match precision.numbers() {
            Precision::F32 => TOGETHER,
            // They take as much memory.
            Precision::Bf16 => 2 * TOGETHER,
        };
        let together = if program.together.is_empty() { 1 } else { most };
        let few = if program.alone.is_empty() { together.min(TOGETHER) } else { 1 };
        Ok(Self {
            program,
            together,
            few,
            classes: config.classes,
            temperature: Temperature::ONE,
            threads: threads.get(),
            pool,
            helpers,
            permits: Permits::new(threads.get()),
            workspaces: Mutex::new(Vec::new()),
        })
    }

    /// The same, with probabilities at this temperature. [`load`](Self::load) and [`of`](Self::of) take what the file says.
    #[must_use]
    pub fn with_temperature(self, temperature: Temperature) -> Self {
        Self { temperature, ..self }
    }

    /// Outputs of the network.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Numbers of an image, `[height, width, 3]`.
    pub fn image_len(&self) -> usize {
        self.program.image.len()
    }

    /// Numbers of an image that the classifier at the network's end reads: the channels of the last map.
    pub fn features_len(&self) -> usize {
        self.program.len_of(Output::Features)
    }

    /// Writes the logits `[batch, classes]` of normalised images `[batch, height, width, 3]`.
    ///
    /// The first call, if it is with few images, is for processes that make no second one: it packs each convolution's weights
    /// when it comes to them. The next call packs all, which takes some milliseconds; later ones find them packed.
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn logits(&self, images: &[f32], logits: &mut [f32]) {
        self.compute(Output::Logits, images, logits);
    }

    /// Writes the features `[batch, features]` of normalised images `[batch, height, width, 3]`: the means over the last map's pixels, which
    /// the classifier makes logits of. Otherwise as [`logits`](Self::logits).
    ///
    /// # Panics
    /// When a slice has another length than its shape says.
    pub fn features(&self, images: &[f32], features: &mut [f32]) {
        self.compute(Output::Features, images, features);
    }

    /// The ranges of what the convolutions read of normalised images `[batch, height, width, 3]`, with which the network can compute in bytes
    /// ([`ClassifierPrecision::Int8`]). Some hundred images like those that it will see are enough.
    ///
    /// # Panics
    /// When the classifier computes in bytes, or `images` is no whole number of images.
    pub fn input_ranges(&self, images: &[f32]) -> InputRanges {
        let image = self.image_len();
        assert!(images.len().is_multiple_of(image), "images are [batch, height, width, 3]");
        let packed = self.program.convolutions.packed(&self.pool);
        let of_chunk = |images: &[f32]| {
            self.with_workspace(|workspace| {
                self.program.input_ranges(Source::Packed(packed), images, workspace)
            })
        };
        let merged = |mut ranges: InputRanges, other| {
            ranges.merge(&other);
            ranges
        };
        let chunks = images.par_chunks(self.together * image);
        self.pool.install(|| chunks.map(of_chunk).reduce(InputRanges::default, merged))
    }

    fn compute(&self, output: Output, images: &[f32], results: &mut [f32]) {
        let (image, result) = (self.image_len(), self.program.len_of(output));
        assert!(images.len().is_multiple_of(image), "images are [batch, height, width, 3]");
        assert_eq!(results.len(), images.len() / image * result, "{output:?}");
        if images.is_empty() {
            return;
        }
        let count = images.len() / image;
        if count <= self.few
            && let Some(first) = self.program.convolutions.first_pass()
        {
            // On the pool, whose threads pack the weights, too.
            let source = first.source();
            return self
                .pool
                .install(|| with_threads_awake(|| self.run(source, images, output, results, self.threads)));
        }
        let packed = self.program.convolutions.packed(&self.pool);
        // Of fewer images than threads some threads would have none.
        if count <= self.few.max(self.threads - 1).min(self.together) {
            // Alone, a caller has all threads.
            let alone = (self.threads > 1).then(|| self.permits.take_all(self.threads)).flatten();
            if let Some(_all) = alone {
                return self
                    .helpers
                    .lead(|| self.run(Source::Packed(packed), images, output, results, self.threads));
            }
            let _permit = self.permits.take();
            return self.run(Source::Packed(packed), images, output, results, 1);
        }
        // As many passes for every thread, of as many images each.
        let passes = count.div_ceil(self.together * self.threads) * self.threads;
        let each = count.div_ceil(passes);
        let chunks = (each * image, each * result);
        self.pool.install(|| {
            let images = images.par_chunks(chunks.0);
            images
                .zip(results.par_chunks_mut(chunks.1))
                .for_each(|(images, results)| self.run(Source::Packed(packed), images, output, results, 1));
        });
    }

    /// The likeliest classes of each of some pictures, likeliest first, with probabilities at the classifier's temperature. Each picture is `[height, width, 3]` bytes of the network's size.
    ///
    /// # Errors
    /// When the normalisation is not one for such images.
    ///
    /// # Panics
    /// When a picture has another size.
    pub fn classify(
        &self,
        pictures: &[&[u8]],
        normalisation: &Normalisation,
        count: usize,
    ) -> Result<Vec<Vec<Prediction>>, NormalisationError> {
        let values = self.normalised(pictures, normalisation)?;
        let mut logits = vec![0.; pictures.len() * self.classes];
        self.logits(&values, &mut logits);
        Ok(logits
            .chunks_exact(self.classes)
            .map(|logits| self.temperature.likeliest(logits, count))
            .collect())
    }

    /// The features of some pictures, `[picture, features]`. Each is `[height, width, 3]` bytes of the network's size.
    ///
    /// # Errors
    /// When the normalisation is not one for such images.
    ///
    /// # Panics
    /// When a picture has another size.
    pub fn features_of(
        &self,
        pictures: &[&[u8]],
        normalisation: &Normalisation,
    ) -> Result<Vec<f32>, NormalisationError> {
        let values = self.normalised(pictures, normalisation)?;
        let mut features = vec![0.; pictures.len() * self.features_len()];
        self.features(&values, &mut features);
        Ok(features)
    }

    /// `[picture, height, width, 3]`
    fn normalised(
        &self,
        pictures: &[&[u8]],
        normalisation: &Normalisation,
    ) -> Result<Vec<f32>, NormalisationError> {
        let MapShape { height, width, .. } = self.program.image;
        normalisation.check(height, width)?;
        let image = self.image_len();
        let mut values = vec![0.; pictures.len() * image];
        for (pixels, values) in pictures.iter().zip(values.chunks_exact_mut(image)) {
            assert_eq!(pixels.len(), image, "a picture's size");
            normalisation.apply(pixels, values);
        }
        Ok(values)
    }

    fn run(&self, weights: Source, images: &[f32], output: Output, results: &mut [f32], parts: usize) {
        self.with_workspace(|workspace| {
            self.program.run(weights, images, workspace, output, results, parts);
        });
    }

    /// With the memory of a pass that has ended, or new memory.
    fn with_workspace<R>(&self, work: impl FnOnce(&mut Workspace) -> R) -> R {
        let kept = || self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept().pop();
        let mut workspace = taken.unwrap_or_else(|| self.program.workspace(self.together));
        let result = work(&mut workspace);
        kept().push(workspace);
        result
    }
}

/// A class and how likely it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The class's number: an output of the classifier.
    pub class: usize,
    /// Its probability by softmax.
    pub probability: f32,
}

/// The likeliest classes of an image by its logits, likeliest first; of equal ones the first.
pub fn likeliest(logits: &[f32], count: usize) -> Vec<Prediction> {
    Temperature::ONE.likeliest(logits, count)
}

/// A classifier that cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClassifierError {
    /// There is no such network, it does not take such images, or the tensors are not its own.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// They are of a network that is run otherwise.
    #[error(
        "{}: a classifier without tensors is of residual networks; {given} runs as tensors, by the library residua or its \
         command",
        .path.display()
    )]
    NotResidual {
        /// The file.
        path: PathBuf,
        /// The network.
        given: String,
    },
    /// The weights of others.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// The processor does not compute in it.
    #[error(transparent)]
    Precision(#[from] UnavailablePrecision),
    /// The system gives no threads.
    #[error("cannot start {threads} threads: {reason}; try fewer")]
    Threads {
        /// How many were wanted.
        threads: usize,
        /// What the system said.
        reason: String,
    },
}
