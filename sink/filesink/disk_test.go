package filesink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"

	"github.com/artifactofdevotion/devotion/sink/durable"
)

var (
	errDisk = fmt.Errorf("the disk failed: %w", syscall.EIO) // injected; the process lives on
	errDead = errors.New("the machine is dead")
)

// disk is a directory whose content stays in the page cache until it is synced. A
// power cut keeps some of the unsynced pages and names, at random. Calls fail at
// random, with or without their effect. A failed sync drops some of the dirty
// pages and marks all of them clean, as Linux does.
type disk struct {
	rng          *rand.Rand
	fails, dies  float64 // probability that a call fails, and that it is the last
	calls        int
	dieAt        int // the call that is the last; 0: none
	dead         bool
	now, durable map[string]*inode
	ops          []nameOp // between durable and now
}

type nameOp struct {
	removed, set string // either may be empty
	inode        *inode
}

type inode struct {
	now, durable []byte
	dirty        map[int]bool // pages
	resized      bool
}

const page = 32

func newDisk(rng *rand.Rand) *disk {
	return &disk{rng: rng, now: map[string]*inode{}, durable: map[string]*inode{}}
}

func (d *disk) chance(p float64) bool { return p > 0 && d.rng.Float64() < p }

// call has an effect, or fails, or both.
func (d *disk) call(effect func() error) error {
	if d.dead {
		return errDead
	}
	d.calls++
	fail, die := d.chance(d.fails), d.chance(d.dies) || d.calls == d.dieAt
	if !fail && !die {
		return effect()
	}
	if d.chance(0.5) {
		if err := effect(); err != nil {
			return err
		}
	}
	if die {
		d.dead = true
		return errDead
	}
	return errDisk
}

// restart is the start of a new process: after a power cut some of the unsynced
// data is left, after a kill all of it.
func (d *disk) restart(powerCut bool) {
	d.dead = false
	if !powerCut {
		return
	}
	for _, op := range d.ops {
		if d.chance(0.5) {
			op.apply(d.durable)
		}
	}
	d.now, d.ops = maps.Clone(d.durable), nil
	for _, name := range slices.Sorted(maps.Keys(d.now)) {
		d.now[name].cut(d)
	}
}

func (op nameOp) apply(names map[string]*inode) {
	delete(names, op.removed)
	if op.set != "" {
		names[op.set] = op.inode
	}
}

func (d *disk) change(op nameOp) {
	op.apply(d.now)
	d.ops = append(d.ops, op)
}

// cut keeps some of the dirty pages.
func (n *inode) cut(d *disk) {
	n.writeBack(d, func() bool { return d.chance(0.5) })
	n.now = slices.Clone(n.durable)
}

// writeBack makes some of the dirty pages durable, and marks all of them clean.
func (n *inode) writeBack(d *disk, keep func() bool) {
	if n.resized && keep() {
		n.durable = resize(n.durable, len(n.now))
	}
	for _, p := range slices.Sorted(maps.Keys(n.dirty)) {
		if from := p * page; from < len(n.now) && from < len(n.durable) && keep() {
			copy(n.durable[from:], n.now[from:min(from+page, len(n.now))])
		}
	}
	clear(n.dirty)
	n.resized = false
}

func resize(b []byte, size int) []byte {
	if size <= len(b) {
		return b[:size:size]
	}
	return append(b, make([]byte, size-len(b))...)
}

func (d *disk) open(name string, flag int) (_ file, err error) {
	var n *inode
	err = d.call(func() error {
		n = d.now[name]
		switch {
		case n == nil && flag&os.O_CREATE == 0:
			return fs.ErrNotExist
		case n != nil && flag&os.O_EXCL != 0:
			return fs.ErrExist
		case n == nil:
			n = &inode{dirty: map[int]bool{}}
			d.change(nameOp{set: name, inode: n})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(n.dirty) == 0 && !n.resized && d.chance(0.5) {
		n.now = slices.Clone(n.durable) // evicted from the cache and read again
	}
	return &handle{d: d, n: n}, nil
}

func (d *disk) ReadFile(name string) ([]byte, error) {
	f, err := d.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, info.Size())
	_, err = f.ReadAt(text, 0)
	return text, errors.Join(err, f.Close())
}

func (d *disk) Create(name string) (durable.File, error) {
	return d.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
}

func (d *disk) Rename(from, to string) error {
	return d.call(func() error {
		n := d.now[from]
		if n == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{removed: from, set: to, inode: n})
		return nil
	})
}

func (d *disk) Remove(name string) error {
	return d.call(func() error {
		if d.now[name] == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{removed: name})
		return nil
	})
}

func (d *disk) List() (names []string, err error) {
	err = d.call(func() error {
		names = slices.Collect(maps.Keys(d.now))
		return nil
	})
	return names, err
}

func (d *disk) Lstat(string) (fs.FileInfo, error) {
	return fileInfo{}, d.call(func() error { return nil })
}

func (d *disk) Sync() error {
	return d.call(func() error {
		d.durable, d.ops = maps.Clone(d.now), nil
		return nil
	})
}

func (d *disk) check() error { return d.call(func() error { return nil }) }
func (d *disk) close() error { return nil }

type handle struct {
	d *disk
	n *inode
}

func (h *handle) ReadAt(p []byte, at int64) (n int, err error) {
	err = h.d.call(func() error {
		if at < int64(len(h.n.now)) {
			n = copy(p, h.n.now[at:])
		}
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (h *handle) WriteAt(p []byte, at int64) (int, error) {
	err := h.d.call(func() error { h.write(p, at); return nil })
	if err != nil && len(p) > 0 && h.d.chance(0.5) {
		h.write(p[:h.d.rng.IntN(len(p))], at)
	}
	return len(p), err
}

func (h *handle) Write(p []byte) (int, error) { return h.WriteAt(p, int64(len(h.n.now))) }

func (h *handle) write(p []byte, at int64) {
	n, end := h.n, int(at)+len(p)
	if end > len(n.now) {
		n.now = resize(n.now, end)
		n.resized = true
	}
	copy(n.now[at:], p)
	for i := int(at) / page; i*page < end; i++ {
		n.dirty[i] = true
	}
}

func (h *handle) Truncate(size int64) error {
	return h.d.call(func() error {
		h.n.now = resize(slices.Clone(h.n.now), int(size))
		h.n.resized = true
		return nil
	})
}

func (h *handle) Sync() error {
	if h.d.dead {
		return errDead
	}
	h.d.calls++
	switch {
	case h.d.chance(h.d.dies) || h.d.calls == h.d.dieAt:
		h.d.dead = true
		return errDead
	case h.d.chance(h.d.fails):
		h.n.writeBack(h.d, func() bool { return h.d.chance(0.5) })
		return errDisk
	}
	h.n.writeBack(h.d, func() bool { return true })
	return nil
}

func (h *handle) Stat() (fs.FileInfo, error) {
	info := fileInfo{size: int64(len(h.n.now))}
	return info, h.d.call(func() error { return nil })
}

type fileInfo struct {
	fs.FileInfo
	size int64
}

func (i fileInfo) Size() int64       { return i.size }
func (i fileInfo) Mode() fs.FileMode { return 0 } // a regular file

func (h *handle) Close() error { return h.d.call(func() error { return nil }) }
