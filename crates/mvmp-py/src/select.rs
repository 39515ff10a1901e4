//! Which packets a subscript or a mask names.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::{PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PySlice;

/// The packets of a burst that a sub-burst is about; `None`: all.
pub type Selection = Option<Box<[u32]>>;

/// A packet, or some.
pub enum Named {
    One(u32),
    Some(Box<[u32]>),
}

fn nth(of: Option<&[u32]>, position: usize) -> u32 {
    of.map_or(position as u32, |indices| indices[position])
}

/// What `burst[key]` names, in numbers of the whole burst. `of` is what the burst itself is about.
pub fn subscript(key: &Bound<'_, PyAny>, of: Option<&[u32]>, len: usize) -> PyResult<Named> {
    if let Ok(mask) = key.cast::<PyArray1<bool>>() {
        return by_mask(mask, of, len).map(Named::Some);
    }
    if let Ok(slice) = key.cast::<PySlice>() {
        let range = slice.indices(len as isize)?;
        let positions =
            (0..range.slicelength as isize).map(|step| (range.start + step * range.step) as usize);
        return Ok(Named::Some(
            positions.map(|position| nth(of, position)).collect(),
        ));
    }
    match key.extract::<isize>() {
        Ok(index) => at(index, len).map(|position| Named::One(nth(of, position))),
        Err(_) => by_array(key, of, len).map(Named::Some),
    }
}

/// What the `mask=` of a call names: a mask or indices.
pub fn some(key: &Bound<'_, PyAny>, of: Option<&[u32]>, len: usize) -> PyResult<Box<[u32]>> {
    match subscript(key, of, len)? {
        Named::One(index) => Ok(Box::new([index])),
        Named::Some(indices) => Ok(indices),
    }
}

fn by_mask(
    mask: &Bound<'_, PyArray1<bool>>,
    of: Option<&[u32]>,
    len: usize,
) -> PyResult<Box<[u32]>> {
    let mask = mask
        .try_readonly()
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let mask = mask.as_array();
    if mask.len() != len {
        return Err(PyIndexError::new_err(format!(
            "a mask of {} elements for a burst of {len} packets",
            mask.len()
        )));
    }
    // Without a branch per packet: a mask is as good as random.
    let mut chosen = vec![0; len];
    let mut count = 0;
    for (position, &wanted) in mask.iter().enumerate() {
        chosen[count] = nth(of, position);
        count += usize::from(wanted);
        if count == len {
            break;
        }
    }
    chosen.truncate(count);
    Ok(chosen.into())
}

fn by_array(key: &Bound<'_, PyAny>, of: Option<&[u32]>, len: usize) -> PyResult<Box<[u32]>> {
    let array = key.py().import("numpy")?.call_method1("asarray", (key,))?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    let empty = array.len().unwrap_or(1) == 0;
    match kind.as_str() {
        "b" => by_mask(
            array.cast::<PyArray1<bool>>().map_err(|_| not_a_key())?,
            of,
            len,
        ),
        _ if empty => Ok(Box::new([])),
        "i" | "u" => {
            let wide = array.call_method1("astype", ("int64",))?;
            let indices = wide
                .cast::<PyArray1<i64>>()
                .map_err(|_| not_a_key())?
                .to_vec()?;
            by_indices(&indices, of, len)
        }
        _ => Err(not_a_key()),
    }
}

fn by_indices(indices: &[i64], of: Option<&[u32]>, len: usize) -> PyResult<Box<[u32]>> {
    let mut seen = vec![false; len];
    let mut chosen = Vec::with_capacity(indices.len());
    for &index in indices {
        let position = at(index as isize, len)?;
        if std::mem::replace(&mut seen[position], true) {
            return Err(PyValueError::new_err(format!(
                "packet {position} is named twice; a packet is lent once"
            )));
        }
        chosen.push(nth(of, position));
    }
    Ok(chosen.into())
}

fn at(index: isize, len: usize) -> PyResult<usize> {
    let position = if index < 0 {
        index + len as isize
    } else {
        index
    };
    match usize::try_from(position) {
        Ok(position) if position < len => Ok(position),
        _ => Err(PyIndexError::new_err(format!(
            "packet {index} of a burst of {len}"
        ))),
    }
}

fn not_a_key() -> PyErr {
    PyTypeError::new_err(
        "a burst takes an int, a slice, a one-dimensional boolean mask or one-dimensional integer indices",
    )
}
