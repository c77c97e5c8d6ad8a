package deadletter

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/source"
)

// Letter is a record that was not delivered, and why.
type Letter struct {
	// ID identifies the record, by its position and content. Letters with equal
	// IDs are copies, which a crash or a rewind makes.
	ID string `json:"id"`

	// Pipeline is the Name of the Poller.
	Pipeline string `json:"pipeline"`

	// Time is when the record was refused, in UTC.
	Time time.Time `json:"time"`

	// From is the cursor from which the record can be fetched again: it is the
	// last one of Index + 1 records.
	From source.Cursor `json:"from"`

	// To is the cursor after the record, or after its batch if Index is not 0 or
	// the sink named the record by its index.
	To source.Cursor `json:"to"`

	// Index is how many records after From precede the record.
	Index int `json:"index,omitempty"`

	// Key names a record that the source could not make, such as "id 42". It is
	// empty for a record that the sink rejected.
	Key string `json:"key,omitempty"`

	// Error is why the record was not delivered. It may contain values of the
	// record.
	Error string `json:"error"`

	// Record is the record as JSON, by encoding/json. It is nil if the source
	// could not make the record, or if it cannot be written as JSON; Error says so.
	Record json.RawMessage `json:"record,omitempty"`
}

func newLetter[T any](r poller.Rejected[T]) Letter {
	l := Letter{
		Pipeline: r.Pipeline, Time: r.Time.UTC(), From: r.From, To: r.To,
		Index: r.Index, Key: r.Key, Error: r.Err,
	}
	if r.Key == "" {
		record, err := encode(r.Record)
		if err != nil { // probably why the sink rejected it
			l.Error += "; the record cannot be written as JSON: " + err.Error()
		}
		l.Record = record
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %d %q %s", l.Pipeline, l.From, l.Index, l.Key, l.Record)
	l.ID = fmt.Sprintf("%x", sum.Sum(nil)[:16])
	return l
}

func encode(record any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(record); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
