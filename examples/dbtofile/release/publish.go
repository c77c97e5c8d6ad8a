package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aead.dev/minisign"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// next is a new index until its signature is in place.
const next = "." + index.Name + ".next"

// publish builds what is to be built, and writes a new index.
func publish(ctx context.Context, c config, out io.Writer) error {
	key, err := readKey(c.key, c.password)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil { // for a web server to read
		return err
	}
	unlock, err := lock(c.dir)
	if err != nil {
		return err
	}
	defer func() { _ = unlock() }()
	own := index.Keys{key.Public().(minisign.PublicKey)}
	trusted := own
	if c.keys != "" {
		more, err := index.ReadKeys(c.keys)
		if err != nil {
			return err
		}
		trusted = append(more, own...)
	}
	x, err := present(c.dir, trusted)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	if x.Serial > now.Add(index.MaxAhead).Unix() {
		return fmt.Errorf("the index has serial %d, which is of a time to come: set the clock, or publish in an empty directory", x.Serial)
	}
	if c.withdraw != "" {
		before := len(x.Releases)
		x.Releases = slices.DeleteFunc(x.Releases, func(r index.Release) bool { return r.Version == c.withdraw })
		if len(x.Releases) == before {
			return fmt.Errorf("version %s is not in the index", c.withdraw)
		}
	}
	if c.version != "" {
		made, err := build(ctx, c, x)
		if err != nil {
			return err
		}
		x.Releases = append(x.Releases, made...)
	}
	x.Format, x.Serial, x.Expires = index.Format, max(x.Serial+1, now.Unix()), now.Add(c.expires)
	if err := write(c.dir, x, key, own); err != nil {
		return err
	}
	for _, r := range x.Releases {
		fmt.Fprintf(out, "%-12s %s/%s  %d bytes  %s\n", r.Version, r.OS, r.Arch, r.Size, r.SHA256)
	}
	_, err = fmt.Fprintf(out, "index %d, to be signed again before %s\n", x.Serial, x.Expires.Format(time.RFC3339))
	return err
}

// present returns the index that is there, or an empty one.
func present(dir string, trusted index.Keys) (x index.Index, err error) {
	file, err := os.ReadFile(filepath.Join(dir, index.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return x, err
	}
	signature, err := os.ReadFile(filepath.Join(dir, index.Signature))
	if err != nil {
		return x, err
	}
	x, err = trusted.Open(file, signature)
	if errors.Is(err, index.ErrSignature) { // a publish may have been killed before its last step
		if file, failed := os.ReadFile(filepath.Join(dir, next)); failed == nil {
			if x, failed := trusted.Open(file, signature); failed == nil {
				return x, os.Rename(filepath.Join(dir, next), filepath.Join(dir, index.Name))
			}
		}
	}
	return x, err
}

// build builds a release for all platforms, and then puts the binaries in place.
func build(ctx context.Context, c config, x index.Index) (made []index.Release, err error) {
	for _, r := range x.Releases {
		if r.Version == c.version {
			return nil, fmt.Errorf("version %s has been published: give the new binaries a new version", c.version)
		}
	}
	var built []string
	for platform := range strings.SplitSeq(c.platforms, ",") {
		system, arch, ok := strings.Cut(platform, "/")
		if !ok {
			return nil, fmt.Errorf("-platforms: %q is not like linux/amd64", platform)
		}
		r := index.Release{Version: c.version, OS: system, Arch: arch, MinFrom: c.minFrom, File: "dbtofile-" + c.version + "-" + system + "-" + arch}
		temporary, err := os.CreateTemp(c.dir, ".build-*")
		if err != nil {
			return nil, err
		}
		temporary.Close()
		defer os.Remove(temporary.Name())
		if err := compile(ctx, c, r, temporary.Name()); err != nil {
			return nil, err
		}
		if r.Size, r.SHA256, err = measure(temporary.Name()); err != nil {
			return nil, err
		}
		_, there, err := measure(filepath.Join(c.dir, r.File))
		if err == nil && there != r.SHA256 { // withdrawn, but on machines already
			return nil, fmt.Errorf("%s is there with other bytes: give the new binaries a new version, or remove it if it was never published", r.File)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		made, built = append(made, r), append(built, temporary.Name())
	}
	for i, r := range made {
		if err := place(built[i], filepath.Join(c.dir, r.File), 0o755); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func compile(ctx context.Context, c config, r index.Release, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w -X main.release="+r.Version, "-o", to, c.source)
	// All that differs between machines is set; what is empty would be taken from go env -w.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+r.OS, "GOARCH="+r.Arch,
		"GOFLAGS=-trimpath -buildvcs=false", "GOAMD64=v1", "GOARM64=v8.0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s/%s: %w\n%s", r.OS, r.Arch, err, text)
	}
	return nil
}

// measure returns the size and the SHA-256 of a file.
func measure(name string) (size int64, sum string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return size, hex.EncodeToString(h.Sum(nil)), err
}

// place makes a file durable, and gives it its name.
func place(temporary, name string, mode fs.FileMode) error {
	f, err := os.OpenFile(temporary, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary, name)
}

// write replaces the index, and reads it again as an updater would.
func write(dir string, x index.Index, key minisign.PrivateKey, own index.Keys) error {
	if err := verify(dir, x); err != nil {
		return err
	}
	file, signature, err := index.Sign(x, key)
	if err != nil {
		return err
	}
	// The signature comes first: updaters that come between the two read again. If this
	// program comes to its end there, the next run finds the index under its other name.
	for _, one := range []struct {
		name string
		text []byte
	}{{next, file}, {index.Signature, signature}} {
		temporary, err := os.CreateTemp(dir, ".index-*")
		if err != nil {
			return err
		}
		defer os.Remove(temporary.Name())
		_, err = temporary.Write(one.text)
		if err := errors.Join(err, temporary.Close()); err != nil {
			return err
		}
		if err := place(temporary.Name(), filepath.Join(dir, one.name), 0o644); err != nil {
			return err
		}
	}
	if err := os.Rename(filepath.Join(dir, next), filepath.Join(dir, index.Name)); err != nil {
		return err
	}
	_, err = present(dir, own)
	return err
}

// verify returns an error if a binary is not what the index says.
func verify(dir string, x index.Index) error {
	for _, r := range x.Releases {
		size, sum, err := measure(filepath.Join(dir, r.File))
		if err != nil {
			return err
		}
		if size != r.Size || sum != r.SHA256 {
			return fmt.Errorf("%s is not as it was when it was published", r.File)
		}
	}
	return nil
}
