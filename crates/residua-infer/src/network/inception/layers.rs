//! Inception-v3, layer by layer, for whoever reads it.

/// Added to a variance before its square root is taken, in every batch normalisation of Inception-v3.
pub const BATCH_NORM_EPSILON: f64 = 1e-3;

/// What the names of the auxiliary classifier's tensors begin with.
const AUXILIARY: &str = "AuxLogits.";

/// A convolution without bias, BN, ReLU. Its weights are `<name>.conv.weight`, those of BN `<name>.bn.weight` and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvolutionLayer {
    /// Its name in weight files.
    pub name: String,
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels that it puts out.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Pixels of the input, along each side, to one of the output.
    pub stride: usize,
    /// Zeros above and below, and to the left and right.
    pub padding: [usize; 2],
}

/// What a network is made of; a reader decides what becomes of it.
pub trait Layers {
    /// A feature map.
    type Map: Clone;

    /// How many channels a map has.
    fn channels(map: &Self::Map) -> usize;
    /// The convolution, its BN and ReLU.
    fn convolution(&mut self, layer: &ConvolutionLayer, x: Self::Map) -> Self::Map;
    /// The maximum over windows of 3x3, stride 2, no padding.
    fn max_pooling(&mut self, x: Self::Map) -> Self::Map;
    /// The mean over windows of `size` x `size`. Padding counts as zeros.
    fn average_pooling(&mut self, x: Self::Map, size: usize, stride: usize, padding: usize) -> Self::Map;
    /// The mean over all pixels.
    fn mean(&mut self, x: Self::Map) -> Self::Map;
    /// Channels behind each other.
    fn concatenation(&mut self, maps: Vec<Self::Map>) -> Self::Map;
}

/// Maps of images that classifiers start from.
#[derive(Debug, Clone)]
pub struct Maps<Map> {
    /// `[batch, 768, 17, 17]` for images of 299.
    pub before_auxiliary: Map,
    /// `[batch, 2048, 1, 1]`
    pub features: Map,
}

/// The convolutions' trunk, from the images to what is classified.
pub fn network<L: Layers>(layers: &mut L, images: L::Map) -> Maps<L::Map> {
    let mut block = Block { layers, name: "" };
    let mut x = block.strided("Conv2d_1a_3x3", images, 32);
    x = block.convolution("Conv2d_2a_3x3", x, 32, [3, 3], [0, 0]);
    x = block.square("Conv2d_2b_3x3", x, 64, 3);
    x = block.layers.max_pooling(x);
    x = block.square("Conv2d_3b_1x1", x, 80, 1);
    x = block.convolution("Conv2d_4a_3x3", x, 192, [3, 3], [0, 0]);
    x = block.layers.max_pooling(x);
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        x = block.named(name).a(x, pooled);
    }
    x = block.named("Mixed_6a").b(x);
    for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        x = block.named(name).c(x, inner);
    }
    let before_auxiliary = x.clone();
    x = block.named("Mixed_7a").d(x);
    for name in ["Mixed_7b", "Mixed_7c"] {
        x = block.named(name).e(x);
    }
    let features = block.layers.mean(x);
    Maps { before_auxiliary, features }
}

/// The auxiliary classifier's convolutions: `[batch, 768, 1, 1]`.
pub fn auxiliary<L: Layers>(layers: &mut L, x: L::Map) -> L::Map {
    let x = layers.average_pooling(x, 5, 3, 0);
    let mut block = Block { layers, name: AUXILIARY };
    let x = block.square("conv0", x, 128, 1);
    let x = block.convolution("conv1", x, 768, [5, 5], [0, 0]);
    block.layers.mean(x)
}

/// Whether a tensor of this name is one of the auxiliary classifier, which is needed in training alone.
pub fn is_auxiliary(name: &str) -> bool {
    name.starts_with(AUXILIARY)
}

/// Linear classifiers and their inputs.
pub(super) fn classifiers() -> [(&'static str, usize); 2] {
    [("AuxLogits.fc", 768), ("fc", 2048)]
}

/// All convolutions.
pub(super) fn convolutions() -> Vec<ConvolutionLayer> {
    let mut collector = Collector(Vec::new());
    let maps = network(&mut collector, 3);
    auxiliary(&mut collector, maps.before_auxiliary);
    collector.0
}

/// A module whose convolutions have names of their own.
struct Block<'a, L> {
    layers: &'a mut L,
    name: &'a str,
}

impl<L: Layers> Block<'_, L> {
    fn named<'b>(&'b mut self, name: &'b str) -> Block<'b, L> {
        Block { layers: &mut *self.layers, name }
    }

    fn layer(
        &mut self,
        name: &str,
        x: L::Map,
        outputs: usize,
        kernel: [usize; 2],
        stride: usize,
        padding: [usize; 2],
    ) -> L::Map {
        let dot = if self.name.is_empty() || self.name.ends_with('.') { "" } else { "." };
        let name = format!("{}{dot}{name}", self.name);
        let layer = ConvolutionLayer { name, inputs: L::channels(&x), outputs, kernel, stride, padding };
        self.layers.convolution(&layer, x)
    }

    fn convolution(
        &mut self,
        name: &str,
        x: L::Map,
        outputs: usize,
        kernel: [usize; 2],
        padding: [usize; 2],
    ) -> L::Map {
        self.layer(name, x, outputs, kernel, 1, padding)
    }

    /// Padded so that the map keeps its size.
    fn square(&mut self, name: &str, x: L::Map, outputs: usize, size: usize) -> L::Map {
        self.convolution(name, x, outputs, [size, size], [size / 2, size / 2])
    }

    /// One pixel high and seven wide or three wide, padded so that the map keeps its size.
    fn wide(&mut self, name: &str, x: L::Map, outputs: usize, width: usize) -> L::Map {
        self.convolution(name, x, outputs, [1, width], [0, width / 2])
    }

    fn tall(&mut self, name: &str, x: L::Map, outputs: usize, height: usize) -> L::Map {
        self.convolution(name, x, outputs, [height, 1], [height / 2, 0])
    }

    /// 3x3, stride 2, no padding.
    fn strided(&mut self, name: &str, x: L::Map, outputs: usize) -> L::Map {
        self.layer(name, x, outputs, [3, 3], 2, [0, 0])
    }

    fn pooled(&mut self, x: L::Map, outputs: usize) -> L::Map {
        let mean = self.layers.average_pooling(x, 3, 1, 1);
        self.square("branch_pool", mean, outputs, 1)
    }

    /// At 35x35.
    fn a(&mut self, x: L::Map, pooled: usize) -> L::Map {
        let one = self.square("branch1x1", x.clone(), 64, 1);
        let five = self.square("branch5x5_1", x.clone(), 48, 1);
        let five = self.square("branch5x5_2", five, 64, 5);
        let double = self.square("branch3x3dbl_1", x.clone(), 64, 1);
        let double = self.square("branch3x3dbl_2", double, 96, 3);
        let double = self.square("branch3x3dbl_3", double, 96, 3);
        let pooled = self.pooled(x, pooled);
        self.layers.concatenation(vec![one, five, double, pooled])
    }

    /// From 35x35 to 17x17.
    fn b(&mut self, x: L::Map) -> L::Map {
        let three = self.strided("branch3x3", x.clone(), 384);
        let double = self.square("branch3x3dbl_1", x.clone(), 64, 1);
        let double = self.square("branch3x3dbl_2", double, 96, 3);
        let double = self.strided("branch3x3dbl_3", double, 96);
        let pooled = self.layers.max_pooling(x);
        self.layers.concatenation(vec![three, double, pooled])
    }

    /// At 17x17, 7x7 taken apart.
    fn c(&mut self, x: L::Map, inner: usize) -> L::Map {
        let one = self.square("branch1x1", x.clone(), 192, 1);
        let seven = self.square("branch7x7_1", x.clone(), inner, 1);
        let seven = self.wide("branch7x7_2", seven, inner, 7);
        let seven = self.tall("branch7x7_3", seven, 192, 7);
        let double = self.square("branch7x7dbl_1", x.clone(), inner, 1);
        let double = self.tall("branch7x7dbl_2", double, inner, 7);
        let double = self.wide("branch7x7dbl_3", double, inner, 7);
        let double = self.tall("branch7x7dbl_4", double, inner, 7);
        let double = self.wide("branch7x7dbl_5", double, 192, 7);
        let pooled = self.pooled(x, 192);
        self.layers.concatenation(vec![one, seven, double, pooled])
    }

    /// From 17x17 to 8x8.
    fn d(&mut self, x: L::Map) -> L::Map {
        let three = self.square("branch3x3_1", x.clone(), 192, 1);
        let three = self.strided("branch3x3_2", three, 320);
        let seven = self.square("branch7x7x3_1", x.clone(), 192, 1);
        let seven = self.wide("branch7x7x3_2", seven, 192, 7);
        let seven = self.tall("branch7x7x3_3", seven, 192, 7);
        let seven = self.strided("branch7x7x3_4", seven, 192);
        let pooled = self.layers.max_pooling(x);
        self.layers.concatenation(vec![three, seven, pooled])
    }

    /// At 8x8, wide.
    fn e(&mut self, x: L::Map) -> L::Map {
        let one = self.square("branch1x1", x.clone(), 320, 1);
        let three = self.square("branch3x3_1", x.clone(), 384, 1);
        let left = self.wide("branch3x3_2a", three.clone(), 384, 3);
        let right = self.tall("branch3x3_2b", three, 384, 3);
        let double = self.square("branch3x3dbl_1", x.clone(), 448, 1);
        let double = self.square("branch3x3dbl_2", double, 384, 3);
        let upper = self.wide("branch3x3dbl_3a", double.clone(), 384, 3);
        let lower = self.tall("branch3x3dbl_3b", double, 384, 3);
        let pooled = self.pooled(x, 192);
        self.layers.concatenation(vec![one, left, right, upper, lower, pooled])
    }
}

/// Reads channels alone.
struct Collector(Vec<ConvolutionLayer>);

impl Layers for Collector {
    type Map = usize;

    fn channels(map: &usize) -> usize {
        *map
    }

    fn convolution(&mut self, layer: &ConvolutionLayer, _: usize) -> usize {
        self.0.push(layer.clone());
        layer.outputs
    }

    fn max_pooling(&mut self, x: usize) -> usize {
        x
    }

    fn average_pooling(&mut self, x: usize, _: usize, _: usize, _: usize) -> usize {
        x
    }

    fn mean(&mut self, x: usize) -> usize {
        x
    }

    fn concatenation(&mut self, maps: Vec<usize>) -> usize {
        maps.into_iter().sum()
    }
}
