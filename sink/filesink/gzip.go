package filesink

import (
	"bytes"
	"compress/gzip"
	"io"
	"sync"
)

// Gzip returns an encoder that compresses the lines of e, which is [JSONLines],
// [CSV] or another format whose End does nothing. Its Extension ends in ".gz".
//
// Each piece of a segment is one gzip member, and a file of several members is a
// gzip file. Small batches compress badly: a member adds about 20 bytes, and shares
// nothing with the others. The sizes of [Options] and [Segment] are those
// of the compressed segment.
func Gzip[T any](e Encoder[T]) Encoder[T] { return &compressed[T]{Encoder: e} }

type compressed[T any] struct {
	Encoder[T]
	writers sync.Pool // of *gzip.Writer: each has about 1 MB
}

func (c *compressed[T]) Extension() string { return c.Encoder.Extension() + ".gz" }

func (c *compressed[T]) End(dst []byte, start int, _ *io.SectionReader) ([]byte, error) {
	w, ok := c.writers.Get().(*gzip.Writer)
	if !ok {
		w = gzip.NewWriter(nil)
	}
	defer c.writers.Put(w)
	var out bytes.Buffer // which never fails
	w.Reset(&out)
	if _, err := w.Write(dst[start:]); err != nil {
		return dst, err
	}
	if err := w.Close(); err != nil {
		return dst, err
	}
	return append(dst[:start], out.Bytes()...), nil
}
