//! Reads pickles of plain objects: exactly the opcodes that `write` writes, and those that Python writes for the same
//! objects. It is no judge of pickles: whatever it does not know, or finds wrong, is left to `pickle.loads`.

use pyo3::IntoPyObject;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};

/// The newest protocol that `pickle.loads` knows.
const MAX_PROTOCOL: u8 = 5;
/// Buffers that have grown beyond this are not kept.
const MAX_KEPT: usize = 4096;

/// A reader of many pickles.
pub(super) struct Reader<'py> {
    py: Python<'py>,
    stack: Vec<Bound<'py, PyAny>>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: Vec<Bound<'py, PyAny>>,
}

impl<'py> Reader<'py> {
    pub(super) fn new(py: Python<'py>) -> Self {
        Self { py, stack: Vec::new(), marks: Vec::new(), memo: Vec::new() }
    }

    /// Returns the object of a pickle; `None` if that is to be left to Python.
    pub(super) fn read(&mut self, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
        // A single int or text is what most items are.
        if let [0x80, 0..=MAX_PROTOCOL, rest @ ..] = pickle {
            let mut input = Input { rest };
            let opcode = input.byte()?;
            if let Some(object) = self.read_leaf(opcode, &mut input)?
                && input.rest.first() == Some(&b'.')
            {
                return Some(object);
            }
        }
        let object = self.run(Input { rest: pickle });
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        self.stack.shrink_to(MAX_KEPT);
        self.memo.shrink_to(MAX_KEPT);
        object
    }

    fn run(&mut self, mut input: Input<'_>) -> Option<Bound<'py, PyAny>> {
        loop {
            let opcode = input.byte()?;
            if let Some(object) = self.read_leaf(opcode, &mut input)? {
                self.stack.push(object);
                continue;
            }
            match opcode {
                0x80 if input.byte()? <= MAX_PROTOCOL => {}
                // A frame only says that so many bytes follow.
                0x95 if input.u64()? <= input.rest.len() as u64 => {}
                b'(' => self.marks.push(self.stack.len()),
                b']' => self.stack.push(PyList::empty(self.py).into_any()),
                b'}' => self.stack.push(PyDict::new(self.py).into_any()),
                0x85 => self.build_tuple(1)?,
                0x86 => self.build_tuple(2)?,
                0x87 => self.build_tuple(3)?,
                b't' => {
                    let start = self.marks.pop()?;
                    self.build_tuple(self.stack.len() - start)?;
                }
                b'a' => {
                    self.append_to_list(self.stack.len().checked_sub(1)?)?;
                }
                b'e' => {
                    let start = self.marks.pop()?;
                    self.append_to_list(start)?;
                }
                b's' => self.add_to_dict(self.stack.len().checked_sub(2)?)?,
                b'u' => {
                    let start = self.marks.pop()?;
                    self.add_to_dict(start)?;
                }
                0x94 => self.memorize(self.memo.len())?,
                b'q' => self.memorize(usize::from(input.byte()?))?,
                b'r' => self.memorize(input.u32()? as usize)?,
                b'h' => self.recall(usize::from(input.byte()?))?,
                b'j' => self.recall(input.u32()? as usize)?,
                b'.' if self.stack.len() == 1 && self.marks.is_empty() => return self.stack.pop(),
                _ => return None,
            }
        }
    }

    /// Returns the object of an opcode that needs nothing but the bytes behind it, `Some(None)` if it is no such opcode.
    #[expect(clippy::option_option, reason = "the outer one is the way out, as everywhere here")]
    fn read_leaf(&self, opcode: u8, input: &mut Input<'_>) -> Option<Option<Bound<'py, PyAny>>> {
        let py = self.py;
        Some(Some(match opcode {
            b'K' => int(py, i64::from(input.byte()?)),
            b'M' => int(py, i64::from(u16::from_le_bytes(input.array()?))),
            b'J' => int(py, i64::from(i32::from_le_bytes(input.array()?))),
            0x8a => {
                let length = usize::from(input.byte()?);
                int(py, long(input.take(length)?)?)
            }
            b'G' => PyFloat::new(py, f64::from_be_bytes(input.array()?)).into_any(),
            b'N' => py.None().into_bound(py),
            0x88 => PyBool::new(py, true).to_owned().into_any(),
            0x89 => PyBool::new(py, false).to_owned().into_any(),
            b')' => PyTuple::empty(py).into_any(),
            0x8c | b'X' | 0x8d => PyString::from_bytes(py, input.block(opcode, 0x8c, b'X')?).ok()?.into_any(),
            b'C' | b'B' | 0x8e => PyBytes::new(py, input.block(opcode, b'C', b'B')?).into_any(),
            _ => return Some(None),
        }))
    }

    /// Returns the objects from a height on, if they are above the last mark.
    fn above(&mut self, start: usize) -> Option<std::vec::Drain<'_, Bound<'py, PyAny>>> {
        let is_above = start <= self.stack.len() && self.marks.last().is_none_or(|&mark| start >= mark);
        is_above.then(|| self.stack.drain(start..))
    }

    fn build_tuple(&mut self, length: usize) -> Option<()> {
        let (py, start) = (self.py, self.stack.len().checked_sub(length)?);
        let tuple = PyTuple::new(py, self.above(start)?).ok()?;
        self.stack.push(tuple.into_any());
        Some(())
    }

    /// Appends the objects from a height on to the list below them.
    fn append_to_list(&mut self, start: usize) -> Option<()> {
        let list = self.container(start)?.cast_into_exact::<PyList>().ok()?;
        for item in self.above(start)? {
            list.append(item).ok()?;
        }
        Some(())
    }

    /// Adds the keys and values from a height on to the dict below them.
    fn add_to_dict(&mut self, start: usize) -> Option<()> {
        let dict = self.container(start)?.cast_into_exact::<PyDict>().ok()?;
        let mut objects = self.above(start)?;
        if objects.len() % 2 != 0 {
            return None;
        }
        while let (Some(key), Some(value)) = (objects.next(), objects.next()) {
            dict.set_item(key, value).ok()?;
        }
        Some(())
    }

    /// Returns the object below a height.
    fn container(&self, start: usize) -> Option<Bound<'py, PyAny>> {
        let position = start.checked_sub(1)?;
        let is_above = self.marks.last().is_none_or(|&mark| position >= mark);
        if is_above { self.stack.get(position).cloned() } else { None }
    }

    /// Python numbers them from 0; a pickle that does not is left to it.
    fn memorize(&mut self, number: usize) -> Option<()> {
        if number != self.memo.len() {
            return None;
        }
        let object = self.container(self.stack.len())?;
        self.memo.push(object);
        Some(())
    }

    fn recall(&mut self, number: usize) -> Option<()> {
        self.stack.push(self.memo.get(number)?.clone());
        Some(())
    }
}

/// What is left of a pickle.
struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(array)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Returns bytes whose length is before them: in one byte, four or eight, which the opcode says.
    fn block(&mut self, opcode: u8, short: u8, medium: u8) -> Option<&'a [u8]> {
        let length = if opcode == short {
            u64::from(self.byte()?)
        } else if opcode == medium {
            u64::from(self.u32()?)
        } else {
            self.u64()?
        };
        self.take(usize::try_from(length).ok()?)
    }
}

fn int(py: Python<'_>, int: i64) -> Bound<'_, PyAny> {
    let Ok(int) = int.into_pyobject(py);
    int.into_any()
}

/// Returns the int of up to eight bytes in two's complement, least significant byte first.
fn long(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > size_of::<i64>() {
        return None;
    }
    let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut extended = [if is_negative { 0xff } else { 0 }; size_of::<i64>()];
    extended[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(extended))
}
