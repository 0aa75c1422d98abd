# A container image of one file: the static binary for the machine that builds the image.
#   docker build -f musl.Dockerfile -t socket-snoop .
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The linker and the libc come with the Rust toolchain; the image's gcc links build scripts only.
RUN set -eu; \
    arch=$(uname -m); \
    rustup target add "$arch-unknown-linux-musl"; \
    scripts/build "$arch"; \
    cp "dist/socket-snoop-$arch" /socket-snoop

FROM scratch
COPY --from=build /socket-snoop /socket-snoop
ENTRYPOINT ["/socket-snoop"]
