// Package disktest is a model of a disk that fails and loses power, for the tests of
// what must survive that. A test replaces its directory by a [Disk], uses it, and
// calls [Disk.Restart] when [Disk.Dead] says that the process or the machine died.
package disktest

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
	// ErrDisk is an injected fault after which the process lives on.
	ErrDisk = fmt.Errorf("the disk failed: %w", syscall.EIO)

	// ErrDead is the error of each call until Restart.
	ErrDead = errors.New("the machine is dead")
)

// Disk is a directory whose content stays in the page cache until it is synced. A
// power cut keeps some of the unsynced pages and names, at random. Calls fail at
// random, with or without their effect. A failed sync drops some of the dirty
// pages and marks all of them clean, as Linux does.
type Disk struct {
	Fails float64 // probability that a call fails
	Dies  float64 // probability that a call is the last
	DieAt int     // the call that is the last; 0: none
	Calls int     // so far
	Dead  bool

	rng          *rand.Rand
	now, durable map[string]*inode
	ops          []nameOp // between durable and now
}

var _ durable.Dir = (*Disk)(nil)

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

// New returns an empty disk that works.
func New(rng *rand.Rand) *Disk {
	return &Disk{rng: rng, now: map[string]*inode{}, durable: map[string]*inode{}}
}

// Names returns the names in the directory, sorted. It never fails.
func (d *Disk) Names() []string { return slices.Sorted(maps.Keys(d.now)) }

// Content returns the content of a file, as a process sees it. It never fails.
func (d *Disk) Content(name string) string { return string(d.now[name].now) }

// IsDurable reports whether a name outlives a power cut.
func (d *Disk) IsDurable(name string) bool { return d.durable[name] != nil }

// Take removes a file, as another process does. It never fails.
func (d *Disk) Take(name string) { d.change(nameOp{removed: name}) }

func (d *Disk) chance(p float64) bool { return p > 0 && d.rng.Float64() < p }

// call has an effect, or fails, or both.
func (d *Disk) call(effect func() error) error {
	if d.Dead {
		return ErrDead
	}
	d.Calls++
	fail, die := d.chance(d.Fails), d.chance(d.Dies) || d.Calls == d.DieAt
	if !fail && !die {
		return effect()
	}
	if d.chance(0.5) {
		if err := effect(); err != nil {
			return err
		}
	}
	if die {
		d.Dead = true
		return ErrDead
	}
	return ErrDisk
}

// Restart is the start of a new process: after a power cut some of the unsynced
// data is left, after a kill all of it.
func (d *Disk) Restart(powerCut bool) {
	d.Dead = false
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

func (d *Disk) change(op nameOp) {
	op.apply(d.now)
	d.ops = append(d.ops, op)
}

// cut keeps some of the dirty pages.
func (n *inode) cut(d *Disk) {
	n.writeBack(d, func() bool { return d.chance(0.5) })
	n.now = slices.Clone(n.durable)
}

// writeBack makes some of the dirty pages durable, and marks all of them clean.
func (n *inode) writeBack(d *Disk, keep func() bool) {
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

// Open opens a file with flags of package os.
func (d *Disk) Open(name string, flag int) (_ *File, err error) {
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
	return &File{d: d, n: n}, nil
}

// ReadFile implements [durable.Dir].
func (d *Disk) ReadFile(name string) ([]byte, error) {
	f, err := d.Open(name, os.O_RDONLY)
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

// Create implements [durable.FS].
func (d *Disk) Create(name string) (durable.File, error) {
	f, err := d.Open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return nil, err // not a nil *File in an interface
	}
	return f, nil
}

// Rename implements [durable.FS].
func (d *Disk) Rename(from, to string) error {
	return d.call(func() error {
		n := d.now[from]
		if n == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{removed: from, set: to, inode: n})
		return nil
	})
}

// Remove implements [durable.FS].
func (d *Disk) Remove(name string) error {
	return d.call(func() error {
		if d.now[name] == nil {
			return fs.ErrNotExist
		}
		d.change(nameOp{removed: name})
		return nil
	})
}

// List implements [durable.Dir].
func (d *Disk) List() (names []string, err error) {
	err = d.call(func() error {
		names = slices.Collect(maps.Keys(d.now))
		return nil
	})
	return names, err
}

// Lstat implements [durable.Dir].
func (d *Disk) Lstat(name string) (info fs.FileInfo, err error) {
	err = d.call(func() error {
		n := d.now[name]
		if n == nil {
			return fs.ErrNotExist
		}
		info = fileInfo{size: int64(len(n.now))}
		return nil
	})
	return info, err
}

// Sync implements [durable.FS].
func (d *Disk) Sync() error {
	return d.call(func() error {
		d.durable, d.ops = maps.Clone(d.now), nil
		return nil
	})
}

// Call is a call without an effect, such as one of a lock.
func (d *Disk) Call() error { return d.call(func() error { return nil }) }

// File is an open file.
type File struct {
	d *Disk
	n *inode
}

// ReadAt implements [io.ReaderAt].
func (h *File) ReadAt(p []byte, at int64) (n int, err error) {
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

// WriteAt implements [io.WriterAt]. After an error a part may be written.
func (h *File) WriteAt(p []byte, at int64) (int, error) {
	err := h.d.call(func() error { h.write(p, at); return nil })
	if err != nil && len(p) > 0 && h.d.chance(0.5) {
		h.write(p[:h.d.rng.IntN(len(p))], at)
	}
	return len(p), err
}

// Write appends to the file.
func (h *File) Write(p []byte) (int, error) { return h.WriteAt(p, int64(len(h.n.now))) }

func (h *File) write(p []byte, at int64) {
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

// Truncate changes the size of the file.
func (h *File) Truncate(size int64) error {
	return h.d.call(func() error {
		h.n.now = resize(slices.Clone(h.n.now), int(size))
		h.n.resized = true
		return nil
	})
}

// Sync implements [durable.File]. If it fails, some of the data may be lost.
func (h *File) Sync() error {
	if h.d.Dead {
		return ErrDead
	}
	h.d.Calls++
	switch {
	case h.d.chance(h.d.Dies) || h.d.Calls == h.d.DieAt:
		h.d.Dead = true
		return ErrDead
	case h.d.chance(h.d.Fails):
		h.n.writeBack(h.d, func() bool { return h.d.chance(0.5) })
		return ErrDisk
	}
	h.n.writeBack(h.d, func() bool { return true })
	return nil
}

// Stat returns the size of the file.
func (h *File) Stat() (fs.FileInfo, error) {
	info := fileInfo{size: int64(len(h.n.now))}
	return info, h.d.call(func() error { return nil })
}

type fileInfo struct {
	fs.FileInfo
	size int64
}

func (i fileInfo) Size() int64       { return i.size }
func (i fileInfo) Mode() fs.FileMode { return 0 } // a regular file

// Close implements [io.Closer].
func (h *File) Close() error { return h.d.call(func() error { return nil }) }
