#!/usr/bin/env python3
"""Records the project's own sample traffic: python/mvmp/data/traffic.pcapng and traffic.json.

Run it as root, or as anybody in a user namespace that keeps the user's id (tcpdump started as
"root" wants to become another user, which a namespace of one user does not allow):

    tests/record_traffic.py [OUTPUT_FOLDER]
    unshare --user --net --map-current-user --keep-caps tests/record_traffic.py [OUTPUT_FOLDER]

It makes two network namespaces joined by a veth pair and lets real programs talk across it: curl
with Python's HTTP server (IPv4 and IPv6), dig with a small DNS responder, ping, iperf3 (TCP and
UDP), a telnet-like session on port 23 (IPv4 and IPv6), a UDP datagram large enough to be
fragmented, and a few crafted frames (802.1Q, QinQ, spanning tree). tcpdump records with
nanoseconds on one end; ARP, NDP and ICMP errors come by themselves. The namespaces are held by
two sleeping processes and vanish with them, whatever happens.

traffic.json says how many frames and bytes there are, and for two filters of tcpdump (`all`
and `not tcp port 23`) how many frames pass and the SHA-256 over (length as u32 little-endian,
bytes) of each of them in order. Tagged frames hold no telnet, as tcpdump's filter would not see it.

Needs: iproute2, util-linux, ethtool, tcpdump, curl, dig, ping, iperf3.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

TOOLS = ["ip", "unshare", "nsenter", "ethtool", "tcpdump", "curl", "dig", "ping", "iperf3"]
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
CLIENT6, SERVER6 = "2001:db8::1", "2001:db8::2"
CLIENT_MAC, SERVER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
BYTES_MAX = 300_000
PATIENCE_S = 30
LAST_WORDS = b"the recording ends here"


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] == "--role":
        ROLES[sys.argv[2]](*sys.argv[3:])
        return
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        sys.exit(f"record_traffic: not installed: {', '.join(missing)}")
    root = pathlib.Path(__file__).resolve().parent.parent
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "python/mvmp/data"
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "traffic.pcapng"
    with contextlib.ExitStack() as stack:
        work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        record(stack, work)
        frames = list(read_pcap((work / "traffic.pcap").read_bytes()))
        output.write_bytes(pcapng(frames))
    if output.stat().st_size > BYTES_MAX:
        sys.exit(f"record_traffic: {output} has {output.stat().st_size} bytes, more than {BYTES_MAX}")
    summary = {
        "packets": len(frames),
        "bytes": sum(len(data) for _, _, data in frames),
        "all": digest(output, ""),
        "not_tcp_port_23": digest(output, "not tcp port 23"),
    }
    (folder / "traffic.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{output}: {output.stat().st_size} bytes")
    print(json.dumps(summary, indent=2))


# ---- The stage: two namespaces, a cable, a recorder ----


class Namespace:
    """A network namespace that lives as long as the process that sleeps in it."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.holder = self.keep(["unshare", "--net", "sleep", "infinity"])
        ours = os.readlink("/proc/self/ns/net")
        await_state("a new network namespace", lambda: self.namespace() not in (None, ours))
        self.run("ip", "link", "set", "lo", "up")

    def namespace(self) -> str | None:
        try:
            return os.readlink(f"/proc/{self.holder.pid}/ns/net")
        except OSError:
            return None

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--", *command]

    def run(self, *command: str, check: bool = True) -> None:
        subprocess.run(
            self.inside(*command),
            check=check,
            timeout=PATIENCE_S,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *command: str, **options: object) -> subprocess.Popen:
        return self.keep(self.inside(*command), **options)

    def keep(self, command: list[str], **options: object) -> subprocess.Popen:
        """Starts a process that is ended, at the latest, when the stage is cleared."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=options.pop("stderr", subprocess.DEVNULL),
            **options,
        )
        self.stack.callback(end, process)
        return process

    def role(self, name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, os.path.abspath(__file__), "--role", name, *arguments)

    def await_port(self, kind: str, port: int) -> None:
        """Waits until somebody is bound to the port, without sending anything there."""
        state = "0A" if kind.startswith("tcp") else "07"

        def bound() -> bool:
            lines = pathlib.Path(f"/proc/{self.holder.pid}/net/{kind}").read_text().splitlines()[1:]
            fields = (line.split() for line in lines)
            return any(f[1].endswith(f":{port:04X}") and f[3] == state for f in fields)

        await_state(f"{kind} port {port}", bound)


def end(process: subprocess.Popen, with_signal: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_state(what: str, holds) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come to pass in {PATIENCE_S} s")
        time.sleep(0.01)


def cable(client: Namespace, server: Namespace) -> None:
    peer = ["peer", "name", "eth0", "address", SERVER_MAC.hex(":"), "netns", str(server.holder.pid)]
    client.run("ip", "link", "add", "eth0", "address", CLIENT_MAC.hex(":"), "type", "veth", *peer)
    for end_, v4, v6 in ((client, CLIENT, CLIENT6), (server, SERVER, SERVER6)):
        # What is recorded is to be what a cable carries: whole checksums, no giant segments.
        for offload in ("rx", "tx", "sg", "tso", "gso", "gro"):
            end_.run("ethtool", "-K", "eth0", offload, "off", check=False)
        end_.run("ip", "addr", "add", f"{v4}/24", "dev", "eth0")
        end_.run("ip", "-6", "addr", "add", f"{v6}/64", "dev", "eth0", "nodad")
        end_.run("ip", "link", "set", "eth0", "up")


def record(stack: contextlib.ExitStack, work: pathlib.Path) -> None:
    client, server = Namespace(stack), Namespace(stack)
    cable(client, server)
    file = work / "traffic.pcap"
    options = [
        "-i",
        "eth0",
        "-w",
        str(file),
        "-U",
        "-s",
        "0",
        "--immediate-mode",
        "--time-stamp-precision=nano",
    ]
    # As root tcpdump would become another user, who cannot write into our folder.
    options += ["-Z", "root"] if os.geteuid() == 0 else []
    with open(work / "tcpdump.log", "w+b") as log:
        recorder = server.start("tcpdump", *options, stderr=log)

    def listening() -> bool:
        said = (work / "tcpdump.log").read_text()
        if recorder.poll() is not None:
            raise RuntimeError(f"tcpdump ended: {said.strip()}")
        return "listening on" in said

    await_state("tcpdump listening", listening)
    talk(client, server, work)
    await_state("the last frame in the file", lambda: LAST_WORDS in file.read_bytes())
    end(recorder, signal.SIGINT)


# ---- The play ----


def talk(client: Namespace, server: Namespace, work: pathlib.Path) -> None:
    site = work / "site"
    site.mkdir()
    (site / "index.html").write_text("<h1>It works</h1>\n")
    (site / "page.txt").write_text(
        "".join(f"line {number:04}: all packets are equal\n" for number in range(400))
    )
    for address in (SERVER, SERVER6):
        server.start(sys.executable, "-m", "http.server", "80", "--bind", address, "--directory", str(site))
    server.start(*server.role("dns"))
    server.start(*server.role("telnet"))
    server.start("iperf3", "--server", "--port", "5201")
    for kind, port in (("tcp", 80), ("tcp6", 80), ("udp6", 53), ("tcp6", 23), ("tcp6", 5201)):
        server.await_port(kind, port)

    ping = ("ping", "-c", "3", "-i", "0.2")
    client.run(*ping, SERVER)
    client.run(*ping, "-6", SERVER6)
    client.run("ping", "-c", "1", "-s", "2000", SERVER)
    client.run("dig", f"@{SERVER}", "+tries=1", "www.example.test", "A")
    client.run("dig", f"@{SERVER6}", "+tries=1", "www.example.test", "AAAA")
    client.run("curl", "-sS", f"http://{SERVER}/index.html")
    client.run("curl", "-sS", f"http://{SERVER}/page.txt")
    client.run("curl", "-sS", f"http://{SERVER}/missing")
    client.run("curl", "-sS", f"http://[{SERVER6}]/index.html")
    client.run(*client.role("telnet-client", SERVER))
    client.run(*client.role("telnet-client", SERVER6))
    client.run("iperf3", "--client", SERVER, "-n", "24K", "-l", "4K")
    client.run("iperf3", "--client", SERVER, "--udp", "-n", "10K", "-l", "1000", "-b", "8M")
    # Nobody listens on UDP 9 or TCP 81: an ICMP error for a fragmented datagram, and a reset.
    client.run(*client.role("datagram", SERVER, "9", "1800"))
    client.run("curl", "-s", "-o", "/dev/null", "--max-time", "5", f"http://{SERVER}:81/", check=False)
    client.run(*client.role("craft"))


def dns() -> None:
    """Answers every question: A with 192.0.2.80, AAAA with 2001:db8::80."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind(("::", 53))
        while True:
            query, peer = listener.recvfrom(1500)
            end_of_name = query.index(0, 12) + 1
            question = query[12 : end_of_name + 4]
            kind = struct.unpack("!H", question[-4:-2])[0]
            address = (
                socket.inet_pton(socket.AF_INET6, "2001:db8::80")
                if kind == 28
                else socket.inet_aton("192.0.2.80")
            )
            answer = struct.pack("!HHHIH", 0xC00C, kind, 1, 300, len(address)) + address
            header = query[:2] + struct.pack("!HHHHH", 0x8580, 1, 1, 0, 0)
            listener.sendto(header + question + answer, peer)


TELNET_DIALOGUE = [
    (b"\xff\xfd\x18\xff\xfb\x01login: ", b"\xff\xfc\x18operator\r\n"),
    (b"Password: ", b"not a secret\r\n"),
    (b"Welcome.\r\n$ ", b"uptime\r\n"),
    (b" 12:00:00 up 42 days, load average: 0.00\r\n$ ", b"exit\r\n"),
]


def telnet() -> None:
    with socket.create_server(("::", 23), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        while True:
            session, _ = listener.accept()
            with session, session.makefile("rwb") as stream:
                for prompt, reply in TELNET_DIALOGUE:
                    stream.write(prompt)
                    stream.flush()
                    stream.read(len(reply))


def telnet_client(address: str) -> None:
    with (
        socket.create_connection((address, 23), timeout=PATIENCE_S) as session,
        session.makefile("rwb") as stream,
    ):
        for prompt, reply in TELNET_DIALOGUE:
            stream.read(len(prompt))
            stream.write(reply)
            stream.flush()
        stream.read()


def datagram(address: str, port: str, length: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(number % 256 for number in range(int(length))), (address, int(port)))


def craft() -> None:
    """Frames that the kernel here has no device for, from a raw socket."""
    macs = SERVER_MAC + CLIENT_MAC
    ipv4 = struct.pack("!H", 0x0800)
    frames = [
        macs + tag(0x8100, 42) + ipv4 + udp(b"in VLAN 42"),
        macs + tag(0x8100, 42) + ipv4 + udp(b"in VLAN 42 again"),
        macs + tag(0x88A8, 7) + tag(0x8100, 100) + ipv4 + udp(b"in VLAN 100 in VLAN 7"),
        bytes.fromhex("0180c2000000")
        + CLIENT_MAC
        + struct.pack("!H", 38)
        + bytes.fromhex("424203")
        + bytes(35)
        + bytes(8),
        macs + ipv4 + udp(LAST_WORDS),
    ]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable_:
        cable_.bind(("eth0", 0))
        for frame in frames:
            cable_.send(frame.ljust(60, b"\0"))


def tag(ether_type: int, vlan: int) -> bytes:
    return struct.pack("!HH", ether_type, vlan)


def udp(payload: bytes) -> bytes:
    """An IPv4 packet from client to server; UDP checksum 0 means none."""
    source, destination = socket.inet_aton(CLIENT), socket.inet_aton(SERVER)
    segment = struct.pack("!HHHH", 4000, 9, 8 + len(payload), 0) + payload
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 1, 0, 64, 17, 0, source, destination)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:] + segment


ROLES = {"dns": dns, "telnet": telnet, "telnet-client": telnet_client, "datagram": datagram, "craft": craft}


# ---- The file ----


def read_pcap(file: bytes):
    """Yields (timestamp in ns, wire length, bytes) of a pcap file as tcpdump writes it here."""
    magic = struct.unpack_from("=I", file)[0]
    unit = {0xA1B23C4D: 1, 0xA1B2C3D4: 1000}[magic]
    offset = 24
    while offset < len(file):
        seconds, fraction, length, wire = struct.unpack_from("=IIII", file, offset)
        offset += 16
        yield seconds * 1_000_000_000 + fraction * unit, wire, file[offset : offset + length]
        offset += length


def pcapng(frames) -> bytes:
    """One section, one Ethernet interface with nanoseconds, one enhanced packet block a frame."""
    blocks = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    blocks.append(block(1, struct.pack("<HHI", 1, 0, 262_144) + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)))
    for timestamp, wire, data in frames:
        header = struct.pack("<IIIII", 0, timestamp >> 32, timestamp & 0xFFFFFFFF, len(data), wire)
        blocks.append(block(6, header + data))
    return b"".join(blocks)


def block(kind: int, body: bytes) -> bytes:
    padding = bytes(-len(body) % 4)
    length = struct.pack("<I", 12 + len(body) + len(padding))
    return struct.pack("<I", kind) + length + body + padding + length


def digest(path: pathlib.Path, expression: str) -> dict[str, object]:
    command = ["tcpdump", "-n", "-r", str(path), "-w", "-", *([expression] if expression else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    sha, count = hashlib.sha256(), 0
    for _, _, data in read_pcap(output):
        sha.update(struct.pack("<I", len(data)) + data)
        count += 1
    return {"frames": count, "sha256": sha.hexdigest()}


if __name__ == "__main__":
    main()
