# SPDX-License-Identifier: BSD-2-Clause
"""Fetch Debian kernels into the cache directory, without touching the machine's own kernels or its apt state.

    tools/kernel fetch NAME [--headers] [--source] [--refresh]
    tools/kernel path NAME image|modules|headers|source|tools
    tools/kernel release NAME
    tools/kernel list

NAME is one of the logical names in KERNELS. A kernel lives in <cache>/kernels/NAME:

    kernel.json          which packages it is made of
    image/               vmlinuz and lib/modules/RELEASE
    headers/             a tree to build external modules with; it names no path outside itself
    source/              the unpacked linux-source, on request
    tools/               where the headers want a newer compiler than the oldest Debian has: that, in usr/bin

The packages come from the mirrors that this machine's own apt is configured with, by a private apt configuration.
"""

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Logical name -> where to look, best first: suites of the archive, the package that names the newest image, and the
# suites that have the programs to build its modules with, if these cannot be the machine's own.
KERNELS = {
    "6.1": [(["bookworm", "bookworm-security"], "linux-image-amd64", None)],
    "6.12": [(["bookworm", "bookworm-security"], "linux-image-6.12-amd64", None),
             (["trixie", "trixie-security"], "linux-image-amd64", None)],
    "newest": [(["trixie-backports"], "linux-image-amd64", ["trixie", "trixie-backports"]),
               (["forky"], "linux-image-amd64", ["forky"]),
               (["sid"], "linux-image-amd64", ["sid"])],
}
# What the compiler runs, but does not depend on.
BUILD_TOOLS = ["binutils"]
# Such a program runs anywhere, by whoever, if its own libc's loader starts it.
WRAPPER = """#!/bin/sh
exec {usr}/lib64/ld-linux-x86-64.so.2 --argv0 "$0" --library-path {usr}/lib/x86_64-linux-gnu {program} "$@"
"""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PARTS = ("image", "headers", "source", "tools")


class Failure(Exception):
    """Something that the user can act upon; printed without a traceback."""


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sluice"


def say(text):
    print(f"tools/kernel: {text}", file=sys.stderr, flush=True)


def run(argv, **kw):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **kw)
    if done.returncode:
        raise Failure(f"'{' '.join(map(str, argv))}' failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


# --- the machine's mirrors ---------------------------------------------------------------------------------------

def one_line_entries(text):
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<opts>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<comps>.*)", line)
        if match:
            components = match["comps"].split("#")[0].split()
            yield match["uri"], match["suite"], components, "trusted=yes" in (match["opts"] or "")


def deb822_entries(text):
    for stanza in re.split(r"\n[ \t]*\n", text):
        stanza = "\n".join(l for l in stanza.splitlines() if not l.startswith("#"))
        fields = {k.lower(): v.split() for k, v in re.findall(r"^(\S+):((?:.*)(?:\n[ \t].*)*)", stanza, re.M)}
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0] == "no":
            continue
        for uri in fields.get("uris", []):
            for suite in fields.get("suites", []):
                yield uri, suite, fields.get("components", []), fields.get("trusted", ["no"])[0] == "yes"


def machine_mirrors():
    """The URIs this machine gets Debian from: (archive, security), each with its [trusted=yes], if any.

    A foreign repository may use Debian's suite names; its signature then fails and apt leaves it out."""
    etc = Path("/etc/apt")
    entries = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        entries += (deb822_entries if path.suffix == ".sources" else one_line_entries)(path.read_text())
    archive, security = {}, {}
    suite_name = re.compile(r"(bullseye|bookworm|trixie|forky|sid|(old)?stable|testing|unstable)(-[a-z-]+)?(/updates)?")
    for uri, suite, components, trusted in entries:
        if "main" in components and suite_name.fullmatch(suite):
            (security if "security" in suite else archive)[uri.rstrip("/")] = trusted
    if not archive:
        raise Failure("no Debian mirror found in /etc/apt/sources.list or /etc/apt/sources.list.d; add one")
    if not security:
        security = {f"{uri}-security": trusted for uri, trusted in archive.items() if uri.endswith("/debian")}
    return archive, security


# --- a private apt -----------------------------------------------------------------------------------------------

class Apt:
    """apt with its own state, lists and sources; of the machine's settings it keeps those on fetching (proxies)."""

    def __init__(self, suites):
        self.suites = suites
        self.root = cache_dir() / "apt" / "+".join(suites)
        self.downloads = cache_dir() / "dl"
        for sub in ("state/lists/partial", "cache/archives/partial"):
            (self.root / sub).mkdir(parents=True, exist_ok=True)
        self.downloads.mkdir(parents=True, exist_ok=True)
        self._write_configuration()

    def _write_configuration(self):
        if not Path(KEYRING).exists():
            raise Failure(f"{KEYRING} is missing; install it: tools/deps kernels")
        archive, security = machine_mirrors()
        lines = []
        for suite in self.suites:
            for uri, trusted in (security if suite.endswith("-security") else archive).items():
                options = f"arch=amd64 signed-by={KEYRING}" + (" trusted=yes" if trusted else "")
                lines.append(f"deb [{options}] {uri} {suite} main\n")
        (self.root / "sources.list").write_text("".join(lines))
        kept = [l for l in run(["apt-config", "dump"]).splitlines() if l.startswith(("Acquire::", "Dir::Etc::netrc"))]
        config = kept + [
            f'Dir::State "{self.root}/state";',
            f'Dir::State::status "{self.root}/state/status";',
            f'Dir::Cache "{self.root}/cache";',
            'Dir::Cache::pkgcache "";',
            'Dir::Cache::srcpkgcache "";',
            f'Dir::Etc::sourcelist "{self.root}/sources.list";',
            'Dir::Etc::sourceparts "/dev/null";',
            'Dir::Etc::parts "/dev/null";',
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::preferences "/dev/null";',
            'Dir::Etc::preferencesparts "/dev/null";',
            'Acquire::Check-Valid-Until "false";',
            'Acquire::Languages "none";',
            'APT::Architecture "amd64";',
            'APT::Architectures { "amd64"; };',
        ]
        if os.geteuid() == 0:
            config.append('APT::Sandbox::User "root";')
        path = self.root / "apt.conf"
        path.touch(mode=0o600)
        path.write_text("\n".join(config) + "\n")
        (self.root / "state/status").touch()

    def _run(self, argv, **kw):
        return run(argv, env={**os.environ, "APT_CONFIG": str(self.root / "apt.conf"), "LC_ALL": "C"}, **kw)

    def update(self):
        say(f"reading the package lists of {' '.join(self.suites)}")
        self._run(["apt-get", "update", "-q"])

    def show(self, package):
        """The stanza of the newest version of PACKAGE, or None."""
        try:
            text = self._run(["apt-cache", "show", "--no-all-versions", package])
        except Failure:
            return None
        return dict(re.findall(r"^(\S+): (.*)$", text, re.M)) or None

    def closure(self, package, pattern):
        """PACKAGE and what it depends on, as far as names match PATTERN: {name: version}."""
        found, todo = {}, [package]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            stanza = self.show(name)
            if not stanza:
                raise Failure(f"{'+'.join(self.suites)} has no package {name}, which {package} needs")
            found[name] = stanza["Version"]
            todo += [d for d in self.needs(stanza) if re.match(pattern, d)]
        return found

    @staticmethod
    def needs(stanza):
        """What the package of STANZA depends on, by its first choices."""
        return [d.split("|")[0].split()[0] for d in stanza.get("Depends", "").split(",") if d.strip()]

    def installation(self, packages):
        """Everything that a machine with nothing on it would get with PACKAGES: {name: version}."""
        plan = self._run(["apt-get", "install", "-s", "-q", "--no-install-recommends", *packages])
        return dict(re.findall(r"^Inst (\S+) \((\S+) ", plan, re.M))

    def download(self, packages):
        """The files of PACKAGES, {name: version}, in their order."""
        patterns = {p: f"{p}_{version.replace(':', '%3a')}_*.deb" for p, version in packages.items()}
        missing = [f"{p} {packages[p]}" for p, pattern in patterns.items() if not list(self.downloads.glob(pattern))]
        for what in missing if len(missing) < 10 else [f"{len(missing)} packages"]:
            say(f"downloading {what}")
        # Where a file is there already, apt compares its hash and downloads nothing.
        wanted = [f"{package}={version}" for package, version in packages.items()]
        self._run(["apt-get", "download", "-q", *wanted], cwd=self.downloads)
        return [next(self.downloads.glob(pattern)) for pattern in patterns.values()]


def locked():
    """One run at a time; held until the process ends or the result is closed."""
    directory = cache_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = open(directory / "lock", "w", encoding="ascii")
    except OSError as error:
        raise Failure(f"cannot write to the cache {directory}: {error.strerror}; name another place with XDG_CACHE_HOME"
                      ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another run to finish")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


# --- one kernel --------------------------------------------------------------------------------------------------

class Kernel:
    def __init__(self, name):
        if name not in KERNELS:
            raise Failure(f"no kernel '{name}'; there are: {', '.join(KERNELS)}")
        self.name = name
        self.dir = cache_dir() / "kernels" / name
        self.record_path = self.dir / "kernel.json"

    @property
    def record(self):
        return json.loads(self.record_path.read_text()) if self.record_path.exists() else None

    def has(self, part):
        # Headers whose programs nothing here can start are none.
        needs_tools = part == "headers" and self.record and self.tools_suites
        return (self.dir / part).is_dir() and (not needs_tools or self.has("tools"))

    @property
    def release(self):
        return self.record["release"]

    def path(self, what):
        part = {"modules": "image"}.get(what, what)
        if not self.has(part):
            option = {"headers": " --headers", "source": " --source"}.get(what, "")
            raise Failure(f"the {what} of kernel {self.name} are not here; fetch them: "
                          f"tools/kernel fetch {self.name}{option}")
        root = self.dir / part
        return {"image": root / "vmlinuz", "modules": root / "lib/modules" / self.release,
                "headers": root / "usr/src" / f"linux-headers-{self.release}", "source": root, "tools": root}[what]

    @property
    def tools_suites(self):
        """Where the programs come from that the headers need; None if the machine's own do."""
        return next((tools for suites, _, tools in KERNELS[self.name] if suites == self.record["suites"]), None)

    def resolve(self):
        """Find the newest version, and remember it, so that image, headers and source are always of one build."""
        reasons = []
        for suites, meta, _ in KERNELS[self.name]:
            apt = Apt(suites)
            try:
                apt.update()
                if not apt.show(meta):
                    raise Failure(f"{'+'.join(suites)} has no {meta}")
                image = next(p for p in apt.closure(meta, r"linux-image-\d") if p != meta)
                packages = apt.closure(image, r"linux-(binary|modules|base)-\d")
            except Failure as failure:
                reasons.append(str(failure))
                continue
            self.dir.mkdir(parents=True, exist_ok=True)
            release = image.removeprefix("linux-image-")
            record = {"release": release, "suites": suites, "version": packages[image], "image": packages}
            self._write_record(record)
            return record
        raise Failure(f"kernel {self.name} was not found on this machine's mirrors:\n" + "\n".join(reasons))

    def _write_record(self, record):
        temporary = self.record_path.with_suffix(".new")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        temporary.rename(self.record_path)

    def ensure(self, parts, refresh=False):
        """Fetch those of PARTS that are not here; with REFRESH, all of them anew if the mirror has a newer build."""
        if not refresh and all(self.has(p) for p in parts):
            return
        with locked():
            if refresh and self.record:
                self._renew()
            try:
                self._fetch_missing(parts)
            except Failure as failure:
                # A mirror keeps only the newest; what was not fetched while the recorded one was that can't be had.
                if not self.record or not self._renew():
                    raise
                say(f"{failure}\n{self.name} is taken anew")
                self._fetch_missing(parts)
        say(f"{self.name} is {self.release} ({self.record['version']})")

    def _renew(self):
        """Forget all parts if the mirror has another build than they are of; whether it has."""
        before = self.record
        if self.resolve() == before:
            return False
        for part in PARTS:
            shutil.rmtree(self.dir / part, ignore_errors=True)
        return True

    def _fetch_missing(self, parts):
        for part in parts:
            if not self.has(part):
                self._fetch(part)

    def _fetch(self, part):
        record = self.record or self.resolve()
        if part == "headers" and self.tools_suites and not self.has("tools"):
            self._fetch("tools")
        apt = Apt(self.tools_suites if part == "tools" else record["suites"])
        if part == "tools":
            apt.update()
            headers = apt.show(f"linux-headers-{record['release']}")
            if not headers:
                raise Failure(f"{'+'.join(apt.suites)} has no linux-headers-{record['release']}")
            needed = [d for d in apt.needs(headers) if not re.match(r"linux-(headers|image|base)-?", d)]
            packages = apt.installation(BUILD_TOOLS + needed)
        elif part == "image":
            packages = record["image"]
        elif part == "headers":
            packages = apt.closure(f"linux-headers-{record['release']}", r"linux-(headers|kbuild)-\d")
        else:
            series = ".".join(record["version"].split(".")[:2])
            packages = {f"linux-source-{series}": record["version"]}
        with tempfile.TemporaryDirectory(dir=self.dir, prefix=f".{part}-") as temporary:
            tree = Path(temporary) / part
            tree.mkdir()
            debs = apt.download(packages)
            say(f"unpacking {' '.join(deb.name.partition('_')[0] for deb in debs)}")
            for deb in debs:
                run(["dpkg-deb", "-x", deb, tree])
            getattr(self, f"_arrange_{part}")(tree)
            shutil.rmtree(self.dir / part, ignore_errors=True)
            tree.rename(self.dir / part)

    def _arrange_image(self, tree):
        if not (tree / "lib/modules").is_dir():
            (tree / "lib").mkdir(exist_ok=True)
            (tree / "usr/lib/modules").rename(tree / "lib/modules")
        # Newer packages have the image among the modules.
        places = [tree / f"boot/vmlinuz-{self.release}", tree / f"lib/modules/{self.release}/vmlinuz"]
        image = next((p for p in places if p.is_file()), None)
        if not image:
            raise Failure(f"kernel {self.name} has its vmlinuz at none of: {', '.join(map(str, places))}")
        image.rename(tree / "vmlinuz")
        for waste in ("usr", "boot", "etc"):
            shutil.rmtree(tree / waste, ignore_errors=True)
        # The package leaves this to its postinst; without it nobody knows which module needs which.
        run(["depmod", "-b", tree, self.release], env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})

    def _arrange_headers(self, tree):
        """Debian's makefiles name /usr/src and /usr/lib/linux-kbuild-*: turn these into where the tree will be."""
        final = self.dir / "headers"
        for path in tree.rglob("*"):
            if path.is_symlink():
                target = os.readlink(path)
                if target.startswith("/usr/"):
                    path.unlink()
                    path.symlink_to(f"{final}{target}")
        for makefile in tree.glob("usr/src/linux-headers-*/Makefile"):
            text = makefile.read_text()
            makefile.write_text(re.sub(r"(?<![\w./])/usr/(src|lib)/linux-", rf"{final}/usr/\1/linux-", text))
        if self.tools_suites:
            self._wrap_programs(tree, final)

    def _wrap_programs(self, tree, final):
        """Put a script in the place of every program in TREE, which will be FINAL."""
        usr = shlex.quote(str(self.dir / "tools/usr"))
        for path in [p for p in tree.rglob("*") if p.is_file() and not p.is_symlink() and os.access(p, os.X_OK)]:
            with path.open("rb") as file:
                magic = file.read(4)
            if magic == b"\x7fELF" and ".so" not in path.name:
                hidden = path.rename(path.with_name(f".{path.name}.elf"))
                program = shlex.quote(str(final / hidden.relative_to(tree)))
                path.write_text(WRAPPER.format(usr=usr, program=program))
                path.chmod(0o755)

    def _arrange_tools(self, tree):
        for path in tree.iterdir():
            if path.name != "usr":
                path.unlink() if path.is_symlink() else shutil.rmtree(path)
        shutil.rmtree(tree / "usr/share")
        self._wrap_programs(tree, self.dir / "tools")

    def _arrange_source(self, tree):
        archive = next(tree.glob("usr/src/linux-source-*.tar.xz"))
        say("unpacking the source archive")
        run(["tar", "-C", tree, "--strip-components=1", "-xf", archive])
        shutil.rmtree(tree / "usr/share", ignore_errors=True)
        archive.unlink()


def command_fetch(args):
    Kernel(args.name).ensure(["image"] + ["headers"] * args.headers + ["source"] * args.source, args.refresh)


def command_path(args):
    kernel = Kernel(args.name)
    if args.what != "tools" or (kernel.record and kernel.tools_suites):
        print(kernel.path(args.what))


def command_release(args):
    kernel = Kernel(args.name)
    kernel.path("image")
    print(kernel.release)


def command_list(_args):
    for name in KERNELS:
        kernel = Kernel(name)
        here = " ".join(p for p in PARTS if kernel.has(p)) or "not fetched"
        print(f"{name:8} {kernel.release if kernel.record else '-':24} {here}")


def main():
    parser = argparse.ArgumentParser(prog="tools/kernel", description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(required=True)
    fetch = commands.add_parser("fetch", help="download and unpack; does nothing if it is there")
    fetch.add_argument("name", choices=KERNELS)
    fetch.add_argument("--headers", action="store_true", help="also what building modules needs")
    fetch.add_argument("--source", action="store_true", help="also the kernel's source")
    fetch.add_argument("--refresh", action="store_true", help="replace it if the mirror has a newer one")
    fetch.set_defaults(run=command_fetch)
    path = commands.add_parser("path", help="print where a part is")
    path.add_argument("name", choices=KERNELS)
    path.add_argument("what", choices=["image", "modules", "headers", "source", "tools"],
                      help="tools: nothing, if the machine's own programs build modules for it")
    path.set_defaults(run=command_path)
    release = commands.add_parser("release", help="print the release, as in uname -r")
    release.add_argument("name", choices=KERNELS)
    release.set_defaults(run=command_release)
    commands.add_parser("list", help="what there is").set_defaults(run=command_list)
    args = parser.parse_args()
    try:
        args.run(args)
    except (Failure, OSError) as failure:
        sys.exit(f"tools/kernel: {failure}")
