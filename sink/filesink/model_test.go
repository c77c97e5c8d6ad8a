package filesink

import "github.com/artifactofdevotion/devotion/internal/disktest"

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
