#!/bin/bash
# dracut module: puts socket-snoop into the initramfs, for use at its rescue prompt.
#   cp dist/socket-snoop-x86_64 /usr/local/sbin/socket-snoop
#   cp -r contrib/dracut/90socket-snoop /usr/lib/dracut/modules.d/
#   dracut --force --add socket-snoop

check() {
    # Only where it is asked for by --add or add_dracutmodules.
    [ -x /usr/local/sbin/socket-snoop ] || return 1
    return 255
}

depends() {
    return 0
}

install() {
    inst_simple /usr/local/sbin/socket-snoop /sbin/socket-snoop
}
