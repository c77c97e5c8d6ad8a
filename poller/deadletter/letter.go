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
	// ID identifies the record. Letters with equal IDs are copies, which a crash or a
	// rewind makes. The ID of a record with a Key, or in a Dir with
	// [Options.Distinct], depends on its key and content only. Without them it also
	// depends on where the batch of the record began: then a copy may have another
	// ID, if the batches after the crash or the rewind begin elsewhere.
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

	// Inexact is true if decoding Record makes another record: a field is not in the
	// JSON, or a value of type any is not restored. [Source] then reads the record
	// from its source again.
	Inexact bool `json:"inexact,omitempty"`
}

func newLetter[T any](r poller.Rejected[T], distinct bool) Letter {
	l := Letter{
		Pipeline: r.Pipeline, Time: r.Time.UTC(), From: r.From, To: r.To,
		Index: r.Index, Key: r.Key, Error: r.Err,
	}
	if r.Key == "" {
		record, err := encode(r.Record)
		if err != nil { // probably why the sink rejected it
			l.Error += "; the record cannot be written as JSON: " + err.Error()
		}
		l.Record, l.Inexact = record, err == nil && !isExact(r.Record, record)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %s", l.Pipeline, l.Key, l.Record)
	if l.Key == "" && (!distinct || l.Record == nil || l.Inexact) {
		fmt.Fprintf(sum, " %q %d", l.From, l.Index)
	}
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
