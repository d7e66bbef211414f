//! JPEG files: where their scans end, and whether the whole picture is in them.
//!
//! A decoder that comes to the end of a scan too early goes on as if zeros followed, and the rest of the picture is grey. So a file is written
//! anew: of each scan what there is of it, behind it a row of ones, which are no code of any table (ITU-T T.81, annex C), and at the end the
//! marker of the end. What stands behind the picture, such as a second one, is left out; a decoder that comes to the ones misses some of the
//! picture and says so.

mod planes;

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use self::planes::{Plane, joined};
use super::decode::{Limit, Problem};

const START: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];
const START_OF_SCAN: u8 = 0xda;

/// More ones than a decoder reads ahead, each byte followed by the zero that tells it from a marker.
const ONES: [u8; 32] = {
    let mut ones = [0; 32];
    let mut at = 0;
    while at < 32 {
        ones[at] = 0xff;
        at += 2;
    }
    ones
};

/// Whether these bytes begin as a JPEG file does.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// The picture in a JPEG file, upright.
pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<DynamicImage, Problem> {
    let Whole { frame, stream, planes } = Whole::of(bytes)?;
    limit.check_sides(frame.width.into(), frame.height.into())?;
    let options = DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder =
        JpegDecoder::new_with_options(ZCursor::new(&stream[..]), options.set_strict_mode(false));
    decoder.decode_headers().map_err(damaged)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let colours = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    let decoded = colours.num_components() as u64;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    // What it becomes is beside it: turned, or of three colours.
    let beside = match (grey, orientation) {
        (true, _) => 3,
        (false, Orientation::NoTransforms) => 0,
        (false, _) => decoded,
    };
    // The file twice.
    let files = (bytes.len() + stream.len()) as u64;
    limit.check_memory(files + frame.coefficients() + frame.pixels() * (decoded + beside))?;
    let mut picture = match planes {
        Some(planes) => joined(&planes, &frame, decoder.input_colorspace())?.into(),
        None => {
            decoder.set_options(options.set_strict_mode(true).jpeg_set_out_colorspace(colours));
            let mut pixels = vec![0; frame.pixels() as usize * colours.num_components()];
            decoder.decode_into(&mut pixels).map_err(damaged)?;
            let (width, height) = (frame.width.into(), frame.height.into());
            let picture = match grey {
                true => GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
                false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
            };
            picture.expect("as many bytes as the picture has")
        }
    };
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn damaged(reason: DecodeErrors) -> Problem {
    let reason = format!("{reason:?}");
    Problem::Damaged(format!("{CUT}, or is damaged ({})", reason.trim_matches(['"', '\n', ' '])))
}

/// A frame's header.
#[derive(Debug, Clone)]
struct Frame {
    is_progressive: bool,
    width: u16,
    height: u16,
    /// Horizontal and vertical sampling factors.
    components: Vec<[u8; 2]>,
    is_in_one_scan: bool,
}

impl Frame {
    /// What the payload of a frame's segment says.
    fn of(marker: u8, payload: &[u8]) -> Option<Self> {
        let &[_precision, h1, h0, w1, w0, count, ref components @ ..] = payload else { return None };
        let components = components.chunks_exact(3).take(count.into());
        let components: Vec<_> = components.map(|one| [(one[1] >> 4).max(1), (one[1] & 15).max(1)]).collect();
        (components.len() == usize::from(count)).then(|| Self {
            is_progressive: matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce),
            width: u16::from_be_bytes([w1, w0]),
            height: u16::from_be_bytes([h1, h0]),
            components,
            is_in_one_scan: false,
        })
    }

    /// The frame of one component alone, as a segment's payload.
    fn of_component(&self, component: usize, payload: &[u8]) -> Option<([u16; 2], Vec<u8>)> {
        let &[h, v] = self.components.get(component)?;
        let side =
            |side: u16, factor: u8, most: u64| (u64::from(side) * u64::from(factor)).div_ceil(most) as u16;
        let size = [side(self.width, h, self.most(0)), side(self.height, v, self.most(1))];
        let &[id, _, table] = payload.get(6 + 3 * component..9 + 3 * component)?.first_chunk::<3>()?;
        let ([h1, h0], [w1, w0]) = (size[1].to_be_bytes(), size[0].to_be_bytes());
        Some((size, vec![payload[0], h1, h0, w1, w0, 1, id, 0x11, table]))
    }

    fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn most(&self, axis: usize) -> u64 {
        self.components.iter().map(|factors| u64::from(factors[axis])).max().unwrap_or(1)
    }

    /// Bytes of the coefficients that a decoder keeps, of pictures that come in several scans.
    fn coefficients(&self) -> u64 {
        if !self.is_progressive && self.is_in_one_scan {
            return 0;
        }
        let units = |side: u16, axis| u64::from(side).div_ceil(8 * self.most(axis));
        let units = units(self.width, 0) * units(self.height, 1);
        let of_unit: u64 = self.components.iter().map(|&[h, v]| u64::from(h) * u64::from(v) * 64).sum();
        units * of_unit * size_of::<i16>() as u64
    }
}

/// A file written anew.
struct Whole {
    frame: Frame,
    stream: Vec<u8>,
    /// Where a baseline picture has its components in scans of their own, one behind the other: each by itself.
    planes: Option<Vec<Plane>>,
}

impl Whole {
    fn of(bytes: &[u8]) -> Result<Self, Problem> {
        let cut = || Problem::Damaged(CUT.into());
        let mut stream = Vec::with_capacity(bytes.len() + 256);
        stream.extend(START);
        let mut frame: Option<(Frame, u8, &[u8])> = None;
        // Tables, which stand in front of any scan.
        let mut tables = Vec::new();
        let mut planes: Vec<Option<Plane>> = Vec::new();
        // Of each component and coefficient of a progressive picture, the bits that are still to come.
        let mut missing: Vec<[u8; 64]> = Vec::new();
        let (mut at, mut scans, mut scanned) = (START.len(), 0, 0);
        while let Some((marker, behind)) = next_marker(bytes, at) {
            at = behind;
            if marker == END[1] || marker == START[1] {
                break;
            }
            // Those without a segment.
            if matches!(marker, 0x01 | 0xd0..=0xd7) {
                continue;
            }
            let length =
                bytes.get(at..at + 2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
            let segment = length.filter(|&length| length >= 2).and_then(|length| bytes.get(at..at + length));
            let Some(segment) = segment else { break };
            at += segment.len();
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    if frame.is_some() {
                        break;
                    }
                    let of_frame = Frame::of(marker, &segment[2..]).ok_or_else(cut)?;
                    planes.resize_with(of_frame.components.len(), || None);
                    missing.resize(of_frame.components.len(), [u8::MAX; 64]);
                    frame = Some((of_frame, marker, &segment[2..]));
                }
                0xc4 | 0xdb | 0xdd => push(&mut tables, marker, segment),
                // Colour profiles, thumbnails, notes: all but what says how colours are stored, and EXIF.
                0xe2..=0xed | 0xef | 0xfe => continue,
                _ => {}
            }
            push(&mut stream, marker, segment);
            if marker != START_OF_SCAN {
                continue;
            }
            let Some((frame, of_frame, payload)) = &mut frame else { break };
            let data = scan(bytes, at);
            at += data.len();
            let components = usize::from(segment.get(2).copied().unwrap_or(0));
            scans += 1;
            scanned += components;
            stream.extend(data);
            let ids: Vec<u8> = payload[6..].chunks_exact(3).map(|one| one[0]).collect();
            let component = |id: u8| ids.iter().take(frame.components.len()).position(|&known| known == id);
            frame.is_in_one_scan |= scans == 1 && components == frame.components.len();
            if frame.is_progressive {
                let selected =
                    segment.get(3..3 + 2 * components).ok_or_else(cut)?.chunks_exact(2).map(|one| one[0]);
                let Some(&[first, last, bits]) =
                    segment.get(3 + 2 * components..).and_then(<[u8]>::first_chunk)
                else {
                    return Err(cut());
                };
                for component in selected.filter_map(component) {
                    let coefficients =
                        missing[component].iter_mut().take(usize::from(last) + 1).skip(first.into());
                    coefficients.for_each(|missing| *missing = bits & 15);
                }
                // Behind the first scan the decoder wants the next marker at once.
                if scans > 1 {
                    stream.extend(ONES);
                }
                continue;
            }
            stream.extend(ONES);
            if !frame.is_in_one_scan {
                let &[_, _, count, id, table, ..] = segment else { return Err(cut()) };
                let Some(component) = component(id) else { return Err(cut()) };
                if count != 1 || frame.components.len() != 3 {
                    return Err(Problem::Unread("a JPEG file of several scans of a rare kind"));
                }
                let ([width, height], frame) = frame.of_component(component, payload).ok_or_else(cut)?;
                let mut stream = START.to_vec();
                stream.extend(&tables);
                push(&mut stream, *of_frame, &with_length(&frame));
                push(&mut stream, START_OF_SCAN, &with_length(&[1, id, table, 0, 63, 0]));
                stream.extend(data);
                stream.extend(ONES);
                stream.extend(END);
                planes[component] = Some(Plane { width, height, stream });
            }
            if scanned >= frame.components.len() {
                break;
            }
        }
        stream.extend(END);
        let (frame, ..) = frame.filter(|_| scans > 0).ok_or_else(cut)?;
        let is_missing = || missing.iter().flatten().any(|&bits| bits > 0);
        let is_cut = if frame.is_progressive { is_missing() } else { scanned < frame.components.len() };
        if is_cut {
            return Err(cut());
        }
        let planes = match frame.is_progressive || frame.is_in_one_scan {
            true => None,
            false => Some(planes.into_iter().collect::<Option<Vec<_>>>().ok_or_else(cut)?),
        };
        Ok(Self { frame, stream, planes })
    }
}

fn push(stream: &mut Vec<u8>, marker: u8, segment: &[u8]) {
    stream.extend([0xff, marker]);
    stream.extend(segment);
}

fn with_length(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u16 + 2).to_be_bytes(), payload].concat()
}

const CUT: &str = "the file ends before the picture does";

/// The next marker from a place on, and the place behind it.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut at = from + first_ff(bytes.get(from..)?)?;
    loop {
        match *bytes.get(at + 1)? {
            // Markers may have any number of these in front of them.
            0xff => at += 1,
            0 => at += 2 + first_ff(bytes.get(at + 2..)?)?,
            marker => return Some((marker, at + 2)),
        }
    }
}

/// The data of a scan, from a place on: to a marker other than those that begin it anew, or to the end of the file.
fn scan(bytes: &[u8], from: usize) -> &[u8] {
    let mut at = from;
    while let Some((marker, behind)) = next_marker(bytes, at) {
        if !matches!(marker, 0xd0..=0xd7) {
            return &bytes[from..behind - 2];
        }
        at = behind;
    }
    // A copy that was broken off has zeros for what it has not come to; a scan ends with ones.
    let data = &bytes[from..];
    let zeros = data.iter().rev().take_while(|&&byte| byte == 0).count();
    if zeros > 2 { &data[..data.len() - zeros] } else { data }
}

/// The place of the first byte 0xff.
fn first_ff(bytes: &[u8]) -> Option<usize> {
    // Many bytes at once, as it is seldom there.
    const STEP: usize = 64;
    let chunk = bytes.chunks(STEP).position(|chunk| chunk.contains(&0xff))?;
    let within = bytes[chunk * STEP..].iter().position(|&byte| byte == 0xff)?;
    Some(chunk * STEP + within)
}
