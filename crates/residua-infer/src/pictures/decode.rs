//! Decoding a picture file: any format, size and colour type, to upright RGB.

use std::{
    fs,
    io::{self, Cursor},
    path::Path,
};

use image::{
    ColorType, DynamicImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, Pixel,
    RgbImage, metadata::Orientation,
};

use super::error::PictureError;
use super::{jpeg, strangers, webp};
use crate::view::View;

/// Largest width and height that is decoded, in pixels.
const LARGEST_SIDE: u32 = View::LARGEST_SIDE as u32;

/// The most memory that a picture may take, from its file to its pixels.
const LARGEST_MEMORY: u64 = 1 << 30;

/// Extensions of the files that are taken for pictures, in lower case.
pub const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// Decodes a JPEG, PNG, WebP, BMP or GIF file (of an animation the first frame) of any size and colour type.
///
/// The format is found from the content. The picture is turned upright as its EXIF data say, transparency is laid over
/// white, 16 bits a channel become 8, grey and CMYK become RGB. No more than 1 GiB of memory is taken, its file included.
///
/// # Errors
///
/// A [`PictureError`] that names the file, where it is missing, empty, truncated, too large or no image.
pub fn read_picture(path: &Path) -> Result<RgbImage, PictureError> {
    let bytes = read_file(path).map_err(|reason| PictureError::Unreadable { path: path.into(), reason })?;
    let too_large =
        |problem: String| PictureError::ImageTooLarge { path: path.into(), problem, limit: LARGEST_SIDE };
    let Some(bytes) = bytes else { return Err(too_large("the file alone is larger".into())) };
    if bytes.is_empty() {
        return Err(PictureError::EmptyFile {
            path: path.into(),
            remedy: "give a whole picture file".into(),
        });
    }
    let limit = Limit { side: LARGEST_SIDE, memory: LARGEST_MEMORY };
    decode(bytes, limit).map_err(|problem| match problem {
        Problem::TooLarge(problem) => too_large(problem),
        Problem::Damaged(problem) => PictureError::NotAnImage { path: path.into(), problem },
        Problem::Unread(what) => {
            let problem = format!("it is {what}, which is not read; save it anew");
            PictureError::NotAnImage { path: path.into(), problem }
        }
    })
}

/// What is wrong with the bytes of a picture.
#[derive(Debug)]
pub(super) enum Problem {
    /// It is too large, in words.
    TooLarge(String),
    /// It is not whole, in words.
    Damaged(String),
    /// It is of a kind that is not read.
    Unread(&'static str),
}

/// How large a picture may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    side: u32,
    memory: u64,
}

impl Limit {
    pub(super) fn check_sides(self, width: u32, height: u32) -> Result<(), Problem> {
        if width == 0 || height == 0 {
            return Err(Problem::Damaged("it has no pixels".into()));
        }
        match width.max(height) > self.side {
            true => Err(Problem::TooLarge(format!("it is {width}x{height}"))),
            false => Ok(()),
        }
    }

    /// Whether decoding may take so many bytes.
    pub(super) fn check_memory(self, bytes: u64) -> Result<(), Problem> {
        match bytes > self.memory {
            true => Err(Problem::TooLarge(format!(
                "decoding it takes {:.1} GiB",
                bytes as f64 / (1u64 << 30) as f64
            ))),
            false => Ok(()),
        }
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(limit) => Self::TooLarge(limit.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// The content of an ordinary file; nothing if it is larger than any picture's memory may be.
fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // A pipe could be waited for without end.
    if !found.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    if found.len() > LARGEST_MEMORY { Ok(None) } else { fs::read(path).map(Some) }
}

fn decode(mut bytes: Vec<u8>, limit: Limit) -> Result<RgbImage, Problem> {
    if jpeg::is_jpeg(&bytes) {
        let image = jpeg::decode(&bytes, limit)?;
        drop(bytes);
        return Ok(over_white(image));
    }
    let format = image::guess_format(&bytes).ok();
    if !matches!(format, Some(ImageFormat::Png | ImageFormat::WebP | ImageFormat::Bmp | ImageFormat::Gif)) {
        let what = strangers::what(&bytes).unwrap_or("it begins as no format that is read");
        return Err(Problem::Damaged(what.into()));
    }
    if format == Some(ImageFormat::WebP) {
        webp::keep_promises(&mut bytes);
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(limit.side);
    limits.max_image_height = Some(limit.side);
    limits.max_alloc = Some(limit.memory);
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(ImageError::from)?;
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    limit.check_sides(width, height)?;
    let orientation = decoder.orientation()?;
    let pixels = u64::from(width) * u64::from(height);
    limit.check_memory(
        bytes.len() as u64 + pixels * memory_of_pixel(format, decoder.color_type(), orientation),
    )?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(over_white(image))
}

/// Bytes a pixel that are taken at once, at most: what the decoder gives, what it works with, and what becomes of it.
fn memory_of_pixel(format: Option<ImageFormat>, kind: ColorType, orientation: Orientation) -> u64 {
    let decoded = u64::from(kind.bytes_per_pixel());
    let working = match format {
        // A frame beside the canvas; planes of brightness and colours.
        Some(ImageFormat::Gif | ImageFormat::WebP) => 4,
        _ => 0,
    };
    let turned = if orientation == Orientation::NoTransforms { 0 } else { decoded };
    let converted = if kind == ColorType::Rgb8 { 0 } else { u64::from(ColorType::Rgb8.bytes_per_pixel()) };
    decoded + working.max(turned).max(converted)
}

/// RGB of 8 bits, transparency laid over white.
fn over_white(image: DynamicImage) -> RgbImage {
    fn blended<P: Pixel>(
        image: &ImageBuffer<P, Vec<P::Subpixel>>,
        to_rgba: impl Fn(&P) -> [u8; 4],
    ) -> RgbImage {
        RgbImage::from_fn(image.width(), image.height(), |x, y| {
            let [red, green, blue, alpha] = to_rgba(image.get_pixel(x, y)).map(u32::from);
            image::Rgb(
                [red, green, blue].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8),
            )
        })
    }
    match image {
        DynamicImage::ImageRgba8(image) => blended(&image, |pixel| pixel.0),
        DynamicImage::ImageLumaA8(image) => {
            blended(&image, |&image::LumaA([value, alpha])| [value, value, value, alpha])
        }
        image if !image.color().has_alpha() => image.into_rgb8(),
        DynamicImage::ImageRgba16(image) => blended(&image, |pixel| pixel.0.map(to_8_bits)),
        DynamicImage::ImageLumaA16(image) => blended(&image, |pixel| {
            let [value, alpha] = pixel.0.map(to_8_bits);
            [value, value, value, alpha]
        }),
        image => blended(&image.into_rgba8(), |pixel| pixel.0),
    }
}

/// The nearest value of 8 bits, as the `image` crate rounds.
fn to_8_bits(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::{GrayImage, ImageBuffer, Rgb, Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;

    struct Files(TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn save(&self, name: &str, image: impl Into<DynamicImage>) -> PathBuf {
            let path = self.0.path().join(name);
            image.into().save(&path).unwrap();
            path
        }

        fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        }
    }

    /// The pixels of a picture, and their width and height.
    fn read(path: &Path) -> (Vec<u8>, (u32, u32)) {
        let picture = read_picture(path).unwrap();
        let size = picture.dimensions();
        (picture.into_raw(), size)
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, 90]))
    }

    #[test]
    fn every_colour_type_is_read() {
        let files = Files::new();
        let grey = files.save("grey.png", GrayImage::from_pixel(2, 2, image::Luma([70])));
        assert_eq!(read(&grey), (vec![70; 12], (2, 2)));
        let deep = ImageBuffer::from_pixel(2, 2, Rgb([65535u16, 257 * 8, 0]));
        assert_eq!(read(&files.save("deep.png", deep)), ([255, 8, 0].repeat(4), (2, 2)));
        let clear = RgbaImage::from_fn(2, 1, |x, _| Rgba([200, 100, 0, if x == 0 { 0 } else { 51 }]));
        assert_eq!(read(&files.save("clear.png", clear)).0, [255, 255, 255, 244, 224, 204]);
        let path = files.write("palette.png", PALETTE_PNG);
        assert_eq!(read(&path), (vec![255, 0, 0, 0, 0, 255], (2, 1)));
    }

    /// Two pixels, red and blue, by palette.
    const PALETTE_PNG: &[u8] =
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x01\x01\x03\0\0\0\xce\xec\xed\xc9\
        \0\0\0\x06PLTE\xff\0\0\0\0\xffl\xa1\xfd\x8e\0\0\0\x0aIDATx\x9ccp\0\0\0B\0A)7\xf4\xef\
        \0\0\0\0IEND\xaeB`\x82";

    #[test]
    fn jpegs_are_read_upright() {
        let files = Files::new();
        let halves = RgbImage::from_fn(32, 16, |x, _| Rgb([if x < 16 { 250 } else { 5 }; 3]));
        let path = files.save("halves.jpg", halves);
        let (found, _) = read(&path);
        assert!(found[0] > 240 && found[31 * 3] < 15);
        // The same with an EXIF tag that says "turn by 180 degrees".
        let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
        let mut bytes = fs::read(&path).unwrap();
        let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], exif.as_slice()].concat();
        bytes.splice(2..2, segment);
        let (found, _) = read(&files.write("turned.jpg", &bytes));
        assert!(found[0] < 15 && found[31 * 3] > 240);
    }

    #[test]
    fn files_that_are_no_whole_images_are_named() {
        let files = Files::new();
        let message = |path: &Path| read_picture(path).unwrap_err().to_string();
        let nowhere = message(&files.0.path().join("nowhere.png"));
        assert!(nowhere.contains("cannot read") && nowhere.contains("nowhere.png"), "{nowhere}");
        assert!(message(files.0.path()).contains("cannot read"));
        assert!(message(&files.write("empty.jpg", b"")).contains("empty.jpg\" is empty"));
        let text = message(&files.write("text.png", b"these are no pixels at all"));
        assert!(text.contains("text.png\" is not a readable image"), "{text}");
        let gif = message(&files.write("moving.gif", b"GIF89a\x01\0\x01\0\0\0\0;"));
        assert!(gif.contains("moving.gif\" is not a readable image"), "{gif}");

        for name in ["whole.png", "whole.jpg"] {
            let whole = fs::read(files.save(name, gradient(40, 40))).unwrap();
            assert!(read_picture(&files.write("cut", &whole)).is_ok());
            for length in [1, 2, 3, 10, 20, 40, whole.len() / 2, whole.len() - 40, whole.len() - 2] {
                let path = files.write("cut", &whole[..length]);
                let is_refused = read_picture(&path).is_err();
                // The last bytes are a marker of the end, after all pixels.
                let marker = if name == "whole.png" { 12 } else { 2 };
                assert_eq!(is_refused, length + marker < whole.len(), "{name} {length}");
            }
        }
    }

    #[test]
    fn other_formats_are_read_and_found_by_their_content() {
        let files = Files::new();
        let picture = gradient(9, 7);
        for name in ["lossless.webp", "plain.bmp", "moving.gif", "png.jpg"] {
            let path = match name {
                // A PNG file that is called a JPEG.
                "png.jpg" => files.write(name, &fs::read(files.save("some.png", picture.clone())).unwrap()),
                _ => files.save(name, picture.clone()),
            };
            let (pixels, size) = read(&path);
            assert_eq!(size, (9, 7), "{name}");
            // GIF has 256 colours.
            let tolerance = if name == "moving.gif" { 16 } else { 0 };
            let is_near = pixels.iter().zip(picture.as_raw()).all(|(a, b)| a.abs_diff(*b) <= tolerance);
            assert!(is_near, "{name}");
        }
    }

    #[test]
    fn of_an_animation_the_first_frame_is_read() {
        use image::{Delay, Frame, codecs::gif::GifEncoder};
        let mut bytes = Vec::new();
        let frame = |value| {
            Frame::from_parts(
                RgbaImage::from_pixel(3, 2, Rgba([value, 0, 0, 255])),
                0,
                0,
                Delay::from_numer_denom_ms(10, 1),
            )
        };
        GifEncoder::new(&mut bytes).encode_frames([frame(200), frame(20)]).unwrap();
        let (pixels, size) = read(&Files::new().write("moving.gif", &bytes));
        assert_eq!((size, pixels[0]), ((3, 2), 200));
    }

    #[test]
    fn cmyk_becomes_rgb() {
        // Left half red, right half light grey; written by Pillow, see `make.py` beside it.
        let bytes = include_bytes!("../../tests/fixtures/augmentation/cmyk.jpg");
        let (pixels, size) = read(&Files::new().write("cmyk.jpg", bytes));
        assert_eq!(size, (32, 16));
        let near = |at: usize, expected: [u8; 3]| {
            pixels[3 * at..][..3].iter().zip(expected).all(|(value, expected)| value.abs_diff(expected) < 12)
        };
        assert!(
            near(3, [255, 0, 0]) && near(28, [204, 204, 204]),
            "{:?} {:?}",
            &pixels[9..12],
            &pixels[84..87]
        );
    }

    #[test]
    fn what_is_no_ordinary_file_is_not_waited_for() {
        let files = Files::new();
        let huge = files.write("huge.jpg", b"\xff\xd8");
        fs::File::options().write(true).open(&huge).unwrap().set_len(LARGEST_MEMORY + 1).unwrap();
        let message = read_picture(&huge).unwrap_err().to_string();
        assert!(message.contains("huge.jpg\" is too large an image (the file alone is larger)"), "{message}");
        #[cfg(unix)]
        {
            let message = read_picture(Path::new("/dev/zero")).unwrap_err().to_string();
            assert!(message.contains("it is no ordinary file"), "{message}");
        }
    }

    #[test]
    fn sixteen_bits_become_eight_as_they_did() {
        for value in 0..=u16::MAX {
            let picture = DynamicImage::from(ImageBuffer::<Rgba<u16>, _>::from_pixel(1, 1, Rgba([value; 4])));
            assert_eq!(picture.into_rgba8().get_pixel(0, 0).0[0], to_8_bits(value));
        }
    }

    #[test]
    fn what_a_picture_takes_is_bounded_for_every_kind() {
        let limit = Limit { side: 100, memory: 100_000 };
        let files = Files::new();
        // Pixels that fit; those of more than a byte a channel do not.
        for (name, picture, is_read) in [
            ("rgb.png", DynamicImage::from(RgbImage::new(100, 100)), true),
            ("rgb.jpg", RgbImage::new(100, 100).into(), true),
            ("rgba.png", RgbaImage::new(100, 100).into(), true),
            ("deep.png", ImageBuffer::<Rgb<u16>, Vec<u16>>::new(100, 100).into(), true),
            ("deep.png", ImageBuffer::<Rgba<u16>, Vec<u16>>::new(100, 100).into(), false),
            ("wide.png", RgbImage::new(101, 1).into(), false),
        ] {
            let bytes = fs::read(files.save(name, picture)).unwrap();
            let found = decode(bytes, limit);
            assert_eq!(found.is_ok(), is_read, "{name}");
            if !is_read {
                assert!(matches!(found, Err(Problem::TooLarge(_))), "{name}");
            }
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures/");
        // 17x33 pixels; in units of 16 and 8 pixels of coefficients of two bytes.
        let progressive = fs::read(format!("{folder}pillow-17x33-1-progressive.jpg")).unwrap();
        let needed = 17 * 33 * 3 + 2 * 5 * 4 * 64 * 2;
        let read = |memory| decode(progressive.clone(), Limit { side: 100, memory });
        assert!(matches!(read(needed), Err(Problem::TooLarge(_))));
        // The file, twice, and what stands behind each scan.
        assert!(read(needed + 2 * progressive.len() as u64 + 1000).is_ok());
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let files = Files::new();
        let mut bytes = fs::read(files.save("small.png", gradient(2, 2))).unwrap();
        bytes[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
        let checksum = crc32(&bytes[12..29]).to_be_bytes();
        bytes[29..33].copy_from_slice(&checksum);
        let message = read_picture(&files.write("huge.png", &bytes)).unwrap_err().to_string();
        assert!(message.contains("huge.png\" is too large an image"), "{message}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
        })
    }
}
