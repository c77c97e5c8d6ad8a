package filesink

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/artifactofdevotion/devotion/internal/disktest"
)

// violation is the panic value that ends a run.
type violation string

func violate(format string, args ...any) { panic(violation(fmt.Sprintf(format, args...))) }

// modelDir is a model of a disk as a directory.
type modelDir struct{ *disktest.Disk }

func (d modelDir) open(name string, flag int) (file, error) {
	f, err := d.Open(name, flag)
	if err != nil {
		return nil, err // not a nil *disktest.File in an interface
	}
	return f, nil
}

func (d modelDir) check() error { return d.Call() }
func (d modelDir) close() error { return nil }

// seal is Seal without the wait for OnSeal, which is a separate step.
func (w *world) seal() {
	w.check(w.file.store.do(context.Background(), w.file.store.seal))
}

// announce calls OnSeal, once, with the oldest segment.
func (w *world) announce() {
	if seg, _, ok := w.file.store.announcer.oldest(); ok {
		w.step("announce %s", seg.File)
		_ = w.file.store.announcer.announce(context.Background(), seg)
	}
}

var errUpload = errors.New("the upload failed")

func (w *world) onSeal(_ context.Context, s Segment) error {
	name := filepath.Base(s.Path)
	if slices.Contains(w.disk.Names(), name) && !w.disk.IsDurable(name) {
		violate("%s was announced before its name was durable", name)
	}
	_, n, _ := parseSegment(name)
	if n > w.announced+1 {
		violate("%s was announced before segment %d", name, w.announced+1)
	}
	if w.rng.IntN(3) == 0 {
		return errUpload
	}
	w.announced = max(w.announced, n)
	return nil
}

// isSealed reports whether a name on the disk is that of a sealed segment.
func isSealed(name string) bool {
	_, _, ok := parseSegment(name)
	return ok && filepath.Ext(name) != openSuffix
}
