//! A sheet of training images: each as in tests, and beside it as training sees it.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage, imageops};
use plotters::prelude::*;
use plotters::style::FontDesc;
use thiserror::Error;

use super::bitmap::Bitmap;
use super::curves::{FONT, register_plot_font};
use crate::data::Preview;
use residua_infer::view::CHANNELS;

/// How a sheet is laid out: rows of groups, each an image as in tests, its variations, and its class below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    images: usize,
    variations: usize,
    /// Height and width of an image on the sheet.
    cell: [usize; 2],
    /// How much larger that is than the image.
    factor: usize,
    /// Groups in a row.
    columns: usize,
}

/// A sheet that would be too large.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "a sheet of {images} images with {variations} variations each, of {height}x{width} pixels, would have more than {} million \
     pixels; ask for fewer",
    MOST_PIXELS / 1_000_000
)]
#[non_exhaustive]
pub struct SheetError {
    /// Images on the sheet.
    pub images: usize,
    /// Variations of each.
    pub variations: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
}

/// What a sheet may have.
const MOST_PIXELS: u128 = 100_000_000;
/// The shorter side of an image on the sheet has at least so many pixels.
const LEAST_SIDE: usize = 96;
const MARGIN: usize = 12;
/// Between the variations of an image.
const GAP: usize = 3;
/// Between an image as in tests and its variations.
const APART: usize = 12;
/// Between groups.
const BETWEEN: usize = 32;
const TITLE: usize = 26;
/// Height of a line of text above or below images.
const LINE: usize = 22;
const TEXT_SIZE: u32 = 13;
const DARK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);

impl Sheet {
    /// A sheet about as high as wide for so many images and variations, of `[height, width]` pixels. Small images are enlarged by a whole
    /// factor.
    ///
    /// # Errors
    /// When it would be too large.
    pub fn new(images: usize, variations: usize, [height, width]: [usize; 2]) -> Result<Self, SheetError> {
        let factor = LEAST_SIDE.div_ceil(height.min(width).max(1));
        let cell = [height * factor, width * factor];
        let pixels = [images, variations + 1, cell[0], cell[1]].map(|number| number as u128);
        if pixels.iter().product::<u128>() > MOST_PIXELS {
            return Err(SheetError { images, variations, height, width });
        }
        let sheet = |columns| Self { images, variations, cell, factor, columns };
        let longer_side = |columns: &usize| sheet(*columns).size().into_iter().max();
        Ok(sheet((1..=images.max(1)).min_by_key(longer_side).unwrap_or(1)))
    }

    /// The sheet as a PNG file, with a title.
    ///
    /// # Panics
    /// When the preview is not of such images.
    pub fn png(&self, preview: &Preview, title: &str) -> Vec<u8> {
        let [height, width] = self.size().map(|side| side as u32);
        let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; CHANNELS]));
        self.write(&mut sheet, preview, title);
        for (number, image) in preview.images.iter().enumerate() {
            let [top, left] = self.place(number);
            for (column, pixels) in std::iter::once(&image.plain).chain(&image.variations).enumerate() {
                let at = left + self.offset(column);
                imageops::replace(&mut sheet, &self.enlarged(pixels), at as i64, top as i64);
            }
        }
        let mut png = Cursor::new(Vec::new());
        sheet.write_to(&mut png, ImageFormat::Png).expect("pixels in memory can be encoded into memory");
        png.into_inner()
    }

    /// Height and width in pixels.
    fn size(&self) -> [usize; 2] {
        let rows = self.images.div_ceil(self.columns);
        let across = self.columns * (self.group_width() + BETWEEN) - BETWEEN;
        [2 * MARGIN + TITLE + LINE + rows * self.row_height(), 2 * MARGIN + across]
    }

    fn group_width(&self) -> usize {
        self.offset(self.variations) + self.cell[1]
    }

    fn row_height(&self) -> usize {
        self.cell[0] + LINE
    }

    /// Top and left of a group.
    fn place(&self, number: usize) -> [usize; 2] {
        let (row, column) = (number / self.columns, number % self.columns);
        let top = MARGIN + TITLE + LINE + row * self.row_height();
        [top, MARGIN + column * (self.group_width() + BETWEEN)]
    }

    /// How far right in its group an image is; the first is as in tests.
    fn offset(&self, column: usize) -> usize {
        let apart = if column == 0 { 0 } else { APART - GAP };
        column * (self.cell[1] + GAP) + apart
    }

    fn enlarged(&self, pixels: &[u8]) -> RgbImage {
        let [height, width] = self.cell.map(|side| (side / self.factor) as u32);
        let image = RgbImage::from_raw(width, height, pixels.to_vec()).expect("images have the sheet's size");
        let [height, width] = self.cell.map(|side| side as u32);
        imageops::resize(&image, width, height, imageops::FilterType::Nearest)
    }

    /// All texts, each as far as there is room.
    fn write(&self, sheet: &mut RgbImage, preview: &Preview, title: &str) {
        register_plot_font();
        let width = sheet.width() as usize - 2 * MARGIN;
        let mut texts = vec![(title, DARK, [MARGIN, MARGIN], width)];
        let captions = MARGIN + TITLE;
        for column in 0..self.columns {
            let left = self.place(column)[1];
            texts.push(("as in tests", GREY, [captions, left], self.cell[1]));
            let right = self.offset(1);
            texts.push(("as in training", GREY, [captions, left + right], self.group_width() - right));
        }
        for (number, image) in preview.images.iter().enumerate() {
            let [top, left] = self.place(number);
            texts.push((&image.class, DARK, [top + self.cell[0], left], self.group_width()));
        }
        for (text, colour, [top, left], width) in texts {
            imageops::replace(sheet, &line(text, colour, width), left as i64, top as i64);
        }
    }
}

/// A line of text, drawn twice as large, which smooths it and sets its letters more exactly.
fn line(text: &str, colour: RGBColor, width: usize) -> RgbImage {
    let size = (2 * width as u32, 2 * LINE as u32);
    let mut dots = RgbImage::from_pixel(size.0, size.1, Rgb([255; CHANNELS]));
    let font = (FONT, 2 * TEXT_SIZE).into_font();
    let text = fitting(text, &font, 2 * width);
    Bitmap(BitMapBackend::with_buffer(&mut dots, size))
        .into_drawing_area()
        .draw_text(&text, &font.color(&colour), (0, 4))
        .expect("memory takes all that is drawn, and the font comes with the program");
    imageops::thumbnail(&dots, width as u32, LINE as u32)
}

/// As much of a text as has room in so many pixels, without control characters, which have no glyphs.
fn fitting(text: &str, font: &FontDesc<'_>, width: usize) -> String {
    let fits = |text: &str| font.box_size(text).is_ok_and(|(wide, _)| wide as usize <= width);
    let mut text: String = text.chars().filter(|character| !character.is_control()).collect();
    if fits(&text) {
        return text;
    }
    while text.pop().is_some() {
        let shorter = format!("{}…", text.trim_end());
        if fits(&shorter) {
            return shorter;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::PreviewedImage;

    fn preview(images: usize, variations: usize) -> Preview {
        let image = |number: usize| PreviewedImage {
            class: format!("class {number}"),
            plain: vec![10 * number as u8; 4 * 6 * 3],
            variations: (1..=variations).map(|k| vec![(10 * number + k) as u8; 4 * 6 * 3]).collect(),
        };
        Preview { height: 4, width: 6, images: (0..images).map(image).collect() }
    }

    #[test]
    fn every_image_is_in_its_place() {
        for (images, variations) in [(1, 1), (5, 3), (9, 1), (3, 8)] {
            let sheet = Sheet::new(images, variations, [4, 6]).unwrap();
            let png = sheet.png(&preview(images, variations), "shapes: everything there is to be seen");
            let drawn = image::load_from_memory(&png).unwrap().into_rgb8();
            // Enlarged 24 times.
            assert_eq!(sheet.cell, [96, 144]);
            for number in 0..images {
                let [top, left] = sheet.place(number);
                for column in 0..=variations {
                    let left = left + sheet.offset(column);
                    for [row, column_of] in [[0, 0], [95, 143]] {
                        let found = drawn.get_pixel((left + column_of) as u32, (top + row) as u32);
                        assert_eq!(found.0, [(10 * number + column) as u8; 3]);
                    }
                }
            }
            let is_dark = |pixel: &Rgb<u8>| pixel.0[0] < 0x80;
            assert!((MARGIN..MARGIN + TITLE).any(|row| {
                (0..drawn.width()).any(|column| is_dark(drawn.get_pixel(column, row as u32)))
            }));
        }
    }

    #[test]
    fn sheets_are_about_square_and_not_endless() {
        assert_eq!(Sheet::new(8, 8, [32, 32]).unwrap().columns, 1);
        assert_eq!(Sheet::new(32, 8, [32, 32]).unwrap().columns, 2);
        assert!((3..8).contains(&Sheet::new(32, 1, [32, 32]).unwrap().columns));
        assert_eq!(Sheet::new(4, 2, [224, 224]).unwrap().factor, 1);
        let error = Sheet::new(u32::MAX as usize, u32::MAX as usize, [16_384, 16_384]).unwrap_err();
        assert!(error.to_string().contains("more than 100 million pixels; ask for fewer"), "{error}");
    }

    #[test]
    fn long_names_end_where_there_is_no_room() {
        register_plot_font();
        let font = (FONT, TEXT_SIZE).into_font();
        assert_eq!(fitting("cat\n", &font, 100), "cat");
        let long = fitting("a very long name of a class", &font, 80);
        assert!(long.ends_with('…') && long.starts_with("a ver") && long.len() < 20, "{long}");
        assert_eq!(fitting("cat", &font, 1), "");
    }
}
