//! The order of a number's bytes.
//!
//! Contract: programs and their reader are on the same host, so that at run time it is [`Order::NATIVE`]. It is a
//! parameter of all that takes numbers apart, so that tests can run either. Shared with build.rs.

/// Which byte of a number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The lowest.
    Little,
    /// The highest.
    Big,
}

impl Default for Order {
    fn default() -> Self {
        Order::NATIVE
    }
}

impl Order {
    /// This host's.
    pub const NATIVE: Order = if cfg!(target_endian = "big") {
        Order::Big
    } else {
        Order::Little
    };
}

/// What lies in memory: a number, or bytes.
pub trait Value: Copy {
    /// All bytes zero.
    const ZERO: Self;

    /// What these bytes are; zero where there are too few.
    fn read(bytes: &[u8], order: Order) -> Self;

    /// Puts its bytes there; nothing where there is no room.
    fn write(self, to: &mut [u8], order: Order);
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Value for $number {
            const ZERO: Self = 0;

            #[inline]
            fn read(bytes: &[u8], order: Order) -> Self {
                bytes.first_chunk().map_or(0, |bytes| match order {
                    Order::Little => Self::from_le_bytes(*bytes),
                    Order::Big => Self::from_be_bytes(*bytes),
                })
            }

            #[inline]
            fn write(self, to: &mut [u8], order: Order) {
                if let Some(to) = to.first_chunk_mut() {
                    *to = match order {
                        Order::Little => self.to_le_bytes(),
                        Order::Big => self.to_be_bytes(),
                    };
                }
            }
        }
    )*};
}

number!(u8, u16, u32, u64, i32);

impl<const N: usize> Value for [u8; N] {
    const ZERO: Self = [0; N];

    #[inline]
    fn read(bytes: &[u8], _: Order) -> Self {
        bytes.first_chunk().copied().unwrap_or([0; N])
    }

    #[inline]
    fn write(self, to: &mut [u8], _: Order) {
        if let Some(to) = to.first_chunk_mut() {
            *to = self;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_order() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(u16::read(&bytes, Order::Little), 0x0201);
        assert_eq!(u16::read(&bytes, Order::Big), 0x0102);
        assert_eq!(u32::read(&bytes, Order::Big), 0x0102_0304);
        assert_eq!(u64::read(&bytes, Order::Little), 0x0807_0605_0403_0201);
        assert_eq!(<[u8; 3]>::read(&bytes, Order::Big), [1, 2, 3]);
        assert_eq!(u32::read(&bytes[..3], Order::Big), 0);
        let mut to = [0; 4];
        (-2i32).write(&mut to, Order::Big);
        assert_eq!(to, [0xff, 0xff, 0xff, 0xfe]);
        7u64.write(&mut to, Order::Big);
        assert_eq!(to, [0xff, 0xff, 0xff, 0xfe]);
        let native = u32::read(&[1, 0, 0, 0], Order::NATIVE);
        assert_eq!(native, u32::from_ne_bytes([1, 0, 0, 0]));
    }
}
