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
	"path/filepath"
	"slices"

	"github.com/artifactofdevotion/devotion/examples/dbtofile/update/index"
)

// spare is how many bytes are left free on the disk of the releases.
const spare = 16 << 20

// stage brings a release onto this machine, complete and checked, if it is not
// here already. It is not in use then.
func (u *updater) stage(ctx context.Context, r index.Release) error {
	sum, err := u.sum(r.Version)
	if err == nil && sum == r.SHA256 {
		return nil
	}
	if err == nil {
		return fmt.Errorf("release %s is here with other bytes than the index says: give them a new version", r.Version)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := u.download(ctx, r)
	defer u.discard(dir)
	if err != nil {
		return err
	}
	if err := u.rename(dir, filepath.Join(u.releases(), r.Version)); err != nil {
		return err
	}
	u.log.Info("release staged", "version", r.Version, "bytes", r.Size)
	return nil
}

// download brings a release into a new directory, which is the caller's to remove,
// checks it against the index, and sees whether it runs on this machine.
func (u *updater) download(ctx context.Context, r index.Release) (dir string, err error) {
	room, err := free(u.releases())
	if err != nil {
		return "", err
	}
	if room < r.Size+spare {
		return "", fmt.Errorf("no room for release %s: %d MiB are free in %s, want %d", r.Version, room>>20, u.releases(), (r.Size+spare)>>20+1)
	}
	if dir, err = os.MkdirTemp(u.releases(), "."+r.Version+temporary+"*"); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "dbtofile")
	if err := u.do("download", func() error { return u.copy(ctx, r, path) }); err != nil {
		return dir, fmt.Errorf("release %s: %w", r.Version, err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), syncDir(dir)); err != nil {
		return dir, err
	}
	var says string
	err = u.do("try", func() error { says, err = u.machine.try(ctx, path); return err })
	if err == nil && says != r.Version {
		err = fmt.Errorf("it says that it is version %s", says)
	}
	if err != nil {
		return dir, fmt.Errorf("release %s does not run here: %w", r.Version, err)
	}
	return dir, nil
}

// copy copies a binary from the source to a file, which is durable then and has the
// size and the hash that the index says.
func (u *updater) copy(ctx context.Context, r index.Release, path string) error {
	from, err := u.from.open(ctx, r.File)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer to.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(from, r.Size+1))
	switch {
	case err != nil:
		return fmt.Errorf("after %d of %d bytes: %w", n, r.Size, err)
	case n != r.Size:
		return fmt.Errorf("it is not as long as the index says: want %d bytes", r.Size)
	case hex.EncodeToString(h.Sum(nil)) != r.SHA256:
		return errors.New("it has not the SHA-256 that the index says")
	}
	return errors.Join(to.Chmod(0o755), to.Sync(), to.Close()) // the umask may have been stricter
}

// prune removes old releases, but none that runs or is current, nor the one before.
func (u *updater) prune(ctx context.Context, before string) error {
	v, err := u.look(ctx)
	if err != nil {
		return err
	}
	versions, err := u.installed()
	if err != nil {
		return err
	}
	slices.SortFunc(versions, func(a, b string) int { return index.Compare(b, a) })
	keep := []string{before, v.current, v.running}
	rest := slices.DeleteFunc(versions, func(v string) bool { return slices.Contains(keep, v) })
	for _, old := range rest[min(u.keep, len(rest)):] {
		// Out of sight first: half a release is not to be taken for a whole one.
		gone, err := tempName(u.releases(), old)
		if err != nil {
			return err
		}
		if err := u.rename(filepath.Join(u.releases(), old), gone); err != nil {
			return err
		}
		if err := u.do("remove", func() error { return os.RemoveAll(gone) }); err != nil {
			return err
		}
		u.log.Info("old release removed", "version", old)
	}
	return nil
}
