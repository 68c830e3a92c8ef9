"""How much a stream or image may claim before it is refused; one place for library and command line."""

MAX_PIXELS = 1 << 28  # 268 megapixels
MAX_MEMORY = 8 << 30  # bytes a decode may plan to take
UNLIMITED = 1 << 62  # for streams we have just made ourselves
