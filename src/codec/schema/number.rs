//! Numbers of any length: decimals as digits.

/// The longest unscaled value of a decimal, in bytes: it has 2,466 digits.
const LONGEST: usize = 1_024;
/// The most digits that a decimal may have.
pub const MOST_DIGITS: u32 = 2_466;

/// A decimal's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// How many digits it has at most.
    pub precision: u32,
    /// How many of them stand behind the point.
    pub scale: u32,
}

impl Decimal {
    /// Appends the digits of an unscaled value in two's complement, big-endian; `false`, with nothing appended, where it is
    /// longer than any real decimal.
    #[must_use]
    pub fn write(self, out: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let bytes = shortest(bytes);
        if bytes.len() > LONGEST {
            return false;
        }
        let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        if bytes.len() <= 16 {
            let mut wide = [if is_negative { 0xff } else { 0 }; 16];
            wide[16 - bytes.len()..].copy_from_slice(bytes);
            let mut digits = itoa::Buffer::new();
            self.write_digits(out, is_negative, digits.format(i128::from_be_bytes(wide).unsigned_abs()).as_bytes());
            return true;
        }
        let mut digits = [0; MOST_DIGITS as usize + 18];
        let from = long_digits(bytes, is_negative, &mut digits);
        self.write_digits(out, is_negative, &digits[from..]);
        true
    }

    fn write_digits(self, out: &mut Vec<u8>, is_negative: bool, digits: &[u8]) {
        if is_negative {
            out.push(b'-');
        }
        let scale = self.scale as usize;
        if scale == 0 {
            return out.extend_from_slice(digits);
        }
        match digits.split_at_checked(digits.len().wrapping_sub(scale)) {
            Some((whole, fraction)) if !whole.is_empty() => {
                out.extend_from_slice(whole);
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
            _ => {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + scale - digits.len(), b'0');
                out.extend_from_slice(digits);
            }
        }
    }

    /// The unscaled value of a number in decimal digits, in two's complement, big-endian, as short as possible; `None` where
    /// it is not a number, or has too many digits.
    pub fn parse(self, text: &str) -> Option<Vec<u8>> {
        Some(to_bytes(&self.unscaled_digits(text)?, text.starts_with('-')))
    }

    /// What is expected, for an error.
    pub fn described(self) -> String {
        format!("a decimal of at most {} digits, {} of them behind the point", self.precision, self.scale)
    }

    /// The digits of the unscaled value, without leading zeros.
    fn unscaled_digits(self, text: &str) -> Option<Vec<u8>> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if whole.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        digits.drain(..digits.iter().take_while(|digit| **digit == b'0').count());
        if digits.is_empty() {
            return Some(digits);
        }
        // How many zeros the unscaled value has more than the digits given.
        let more = i64::from(self.scale) + i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
        if more < 0 {
            let kept = digits.len().checked_sub(usize::try_from(-more).ok()?)?;
            if digits[kept..].iter().any(|digit| *digit != b'0') {
                return None;
            }
            digits.truncate(kept);
        }
        let len = i64::try_from(digits.len()).ok()? + more.max(0);
        if len > i64::from(self.precision) {
            return None;
        }
        digits.resize(usize::try_from(len).ok()?, b'0');
        Some(digits)
    }
}

/// Two's complement without the leading bytes that only repeat the sign.
fn shortest(mut bytes: &[u8]) -> &[u8] {
    while let [top, rest @ ..] = bytes
        && let Some(below) = rest.first()
        && *top == if below & 0x80 == 0 { 0 } else { 0xff }
    {
        bytes = rest;
    }
    bytes
}

/// Writes the digits of a long number to the end of `digits`; returns where they begin.
fn long_digits(bytes: &[u8], is_negative: bool, digits: &mut [u8]) -> usize {
    const CHUNK: u64 = 10_000_000_000_000_000_000;
    let mut limbs = [0u64; LONGEST / 8];
    let mut carry = is_negative;
    for (limb, chunk) in limbs.iter_mut().zip(bytes.rchunks(8)) {
        let mut wide = [if is_negative { 0xff } else { 0 }; 8];
        wide[8 - chunk.len()..].copy_from_slice(chunk);
        *limb = u64::from_be_bytes(wide);
        if is_negative {
            (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
        }
    }
    let mut used = bytes.len().div_ceil(8);
    let mut from = digits.len();
    loop {
        while used > 0 && limbs[used - 1] == 0 {
            used -= 1;
        }
        let mut remainder = 0u64;
        for limb in limbs[..used].iter_mut().rev() {
            let dividend = u128::from(remainder) << 64 | u128::from(*limb);
            (*limb, remainder) = ((dividend / u128::from(CHUNK)) as u64, (dividend % u128::from(CHUNK)) as u64);
        }
        let is_last = limbs[..used].iter().all(|limb| *limb == 0);
        for place in 0..19 {
            if (is_last && remainder == 0 && place > 0) || from == 0 {
                break;
            }
            from -= 1;
            digits[from] = b'0' + (remainder % 10) as u8;
            remainder /= 10;
        }
        if is_last || from == 0 {
            return from;
        }
    }
}

/// The shortest two's complement of a number in digits, big-endian.
fn to_bytes(digits: &[u8], is_negative: bool) -> Vec<u8> {
    // Little-endian while it grows.
    let mut bytes: Vec<u8> = Vec::with_capacity(digits.len() / 2 + 1);
    for digit in digits {
        let mut carry = u16::from(digit - b'0');
        for byte in &mut bytes {
            let value = u16::from(*byte) * 10 + carry;
            (*byte, carry) = (value as u8, value >> 8);
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.push(0); // the sign
    if is_negative {
        let mut carry = true;
        for byte in &mut bytes {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    bytes.reverse();
    let redundant = bytes.len() - shortest(&bytes).len();
    bytes.drain(..redundant);
    bytes
}
