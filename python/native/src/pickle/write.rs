//! Writes pickles of plain objects.
//!
//! A pickle keeps which objects are the same; these do not, so an object that might occur twice in the item is refused:
//! for lists and dicts because a change of one would not show in the other, for tuples, strings and bytes because the
//! pickle could become far larger than the object.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// The object is none that is written here.
#[derive(Debug)]
pub(super) struct NotPlain;

/// How deep tuples, lists and dicts may be nested.
const MAX_DEPTH: u32 = 20;
/// How many objects with several references may be in an item: each is compared with all before it.
const MAX_SHARED: usize = 16;
/// Strings and bytes below this length may be written twice.
const SHORT: usize = 256;

const PROTO_4: [u8; 2] = [0x80, 4];
const STOP: u8 = b'.';

/// Appends the pickle of an object. After an error, a part of it may have been appended.
pub(super) fn write(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), NotPlain> {
    out.extend_from_slice(&PROTO_4);
    Writer { out, shared: [std::ptr::null_mut(); MAX_SHARED], num_shared: 0 }.write(object, 0)?;
    out.push(STOP);
    Ok(())
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// The objects that have several references.
    shared: [*mut ffi::PyObject; MAX_SHARED],
    num_shared: usize,
}

impl Writer<'_> {
    fn write(&mut self, object: &Bound<'_, PyAny>, depth: u32) -> Result<(), NotPlain> {
        if let Ok(int) = object.cast_exact::<PyInt>() {
            self.write_int(int)
        } else if let Ok(string) = object.cast_exact::<PyString>() {
            // It fails for surrogates.
            let bytes = string.to_str().map_err(|_| NotPlain)?.as_bytes();
            self.check_length(object, bytes.len())?;
            self.write_bytes([0x8c, b'X', 0x8d], bytes);
            Ok(())
        } else if let Ok(float) = object.cast_exact::<PyFloat>() {
            self.out.push(b'G');
            self.out.extend_from_slice(&float.value().to_be_bytes());
            Ok(())
        } else if object.is_none() {
            self.out.push(b'N');
            Ok(())
        } else if let Ok(bool) = object.cast_exact::<PyBool>() {
            self.out.push(if bool.is_true() { 0x88 } else { 0x89 });
            Ok(())
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            self.check_length(object, bytes.as_bytes().len())?;
            self.write_bytes([b'C', b'B', 0x8e], bytes.as_bytes());
            Ok(())
        } else if depth == MAX_DEPTH {
            Err(NotPlain)
        } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            self.write_tuple(tuple, depth + 1)
        } else if let Ok(list) = object.cast_exact::<PyList>() {
            self.write_list(list, depth + 1)
        } else if let Ok(dict) = object.cast_exact::<PyDict>() {
            self.write_dict(dict, depth + 1)
        } else {
            Err(NotPlain)
        }
    }

    fn write_int(&mut self, int: &Bound<'_, PyInt>) -> Result<(), NotPlain> {
        let int: i64 = int.extract().map_err(|_| NotPlain)?;
        if let Ok(int) = u8::try_from(int) {
            self.out.extend_from_slice(&[b'K', int]);
        } else if let Ok(int) = u16::try_from(int) {
            let [low, high] = int.to_le_bytes();
            self.out.extend_from_slice(&[b'M', low, high]);
        } else if let Ok(int) = i32::try_from(int) {
            self.out.push(b'J');
            self.out.extend_from_slice(&int.to_le_bytes());
        } else {
            self.out.extend_from_slice(&[0x8a, 8]);
            self.out.extend_from_slice(&int.to_le_bytes());
        }
        Ok(())
    }

    /// Writes bytes behind the opcode for their length, which has one byte, four or eight.
    fn write_bytes(&mut self, [short, medium, long]: [u8; 3], bytes: &[u8]) {
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.out.extend_from_slice(&[short, length]);
        } else if let Ok(length) = u32::try_from(bytes.len()) {
            self.out.push(medium);
            self.out.extend_from_slice(&length.to_le_bytes());
        } else {
            self.out.push(long);
            self.out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        }
        self.out.extend_from_slice(bytes);
    }

    fn write_tuple(&mut self, tuple: &Bound<'_, PyTuple>, depth: u32) -> Result<(), NotPlain> {
        let length = tuple.len();
        if length == 0 {
            self.out.push(b')');
            return Ok(());
        }
        self.check_shared(tuple)?;
        if length > 3 {
            self.out.push(b'(');
        }
        // Not borrowed: the count of references is compared.
        for item in tuple.iter() {
            self.write(&item, depth)?;
        }
        self.out.push(match length {
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => b't',
        });
        Ok(())
    }

    fn write_list(&mut self, list: &Bound<'_, PyList>, depth: u32) -> Result<(), NotPlain> {
        self.check_shared(list)?;
        self.out.push(b']');
        match list.len() {
            0 => {}
            1 => {
                self.write(&list.get_item(0).map_err(|_| NotPlain)?, depth)?;
                self.out.push(b'a');
            }
            _ => {
                self.out.push(b'(');
                for item in list.iter() {
                    self.write(&item, depth)?;
                }
                self.out.push(b'e');
            }
        }
        Ok(())
    }

    fn write_dict(&mut self, dict: &Bound<'_, PyDict>, depth: u32) -> Result<(), NotPlain> {
        self.check_shared(dict)?;
        self.out.push(b'}');
        if dict.is_empty() {
            return Ok(());
        }
        self.out.push(b'(');
        for (key, value) in dict.iter() {
            self.write(&key, depth)?;
            self.write(&value, depth)?;
        }
        self.out.push(b'u');
        Ok(())
    }

    fn check_length(&mut self, object: &Bound<'_, PyAny>, length: usize) -> Result<(), NotPlain> {
        if length < SHORT { Ok(()) } else { self.check_shared(object) }
    }

    /// Fails if the object was met before, or too many that may be met again.
    fn check_shared(&mut self, object: &Bound<'_, PyAny>) -> Result<(), NotPlain> {
        if num_references(object) <= 2 {
            // One is from here, so there is no second way to it. (Should it be the item itself: a cycle is too deep.)
            return Ok(());
        }
        let met = &self.shared[..self.num_shared];
        if met.len() == MAX_SHARED || met.contains(&object.as_ptr()) {
            return Err(NotPlain);
        }
        self.shared[self.num_shared] = object.as_ptr();
        self.num_shared += 1;
        Ok(())
    }
}

#[expect(unsafe_code, reason = "it has no safe name that is not deprecated")]
fn num_references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the object is alive, and the interpreter attached.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}
