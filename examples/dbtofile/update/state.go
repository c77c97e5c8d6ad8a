package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// state is what is remembered from run to run, in state.json.
type state struct {
	Serial      int64        `json:"serial"`       // the greatest of an index seen
	IndexSHA256 string       `json:"index_sha256"` // of that index
	Available   string       `json:"available,omitempty"`
	Pending     *pending     `json:"pending,omitempty"`
	Quarantined []quarantine `json:"quarantined,omitempty"`

	LastCheck    time.Time `json:"last_check,omitzero"`
	LastDeploy   time.Time `json:"last_deploy,omitzero"`
	LastRollback time.Time `json:"last_rollback,omitzero"`
	Deploys      int64     `json:"deploys"`
	Rollbacks    int64     `json:"rollbacks"`
	Deferrals    int64     `json:"deferrals"`
	Failures     int64     `json:"failures"`
}

// pending is a deploy that has begun and not ended.
type pending struct {
	From   string `json:"from"`
	To     string `json:"to"`
	SHA256 string `json:"sha256"` // of To
	Step   step   `json:"step"`
	Reason string `json:"reason,omitempty"` // of a rollback
	Tries  int    `json:"tries"`            // how often it was begun

	// The pipelines of To ran and failed, as they do when the database is down.
	Failing bool `json:"failing,omitempty"`
}

type step string

const (
	stepDeploy   step = "deploy"
	stepRollback step = "rollback"
)

// quarantine is a release that did not do well where its predecessor did.
type quarantine struct {
	Version string    `json:"version"`
	SHA256  string    `json:"sha256"`
	Time    time.Time `json:"time"`
	Reason  string    `json:"reason"`
}

func (s state) quarantined(version string) (quarantine, bool) {
	for _, q := range s.Quarantined {
		if q.Version == version {
			return q, true
		}
	}
	return quarantine{}, false
}

func (u *updater) stateFile() string { return filepath.Join(u.config.state, "state.json") }

// load reads what is remembered. Before the first run that is nothing.
func (u *updater) load() error {
	text, err := os.ReadFile(u.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &u.memory)
	}
	if err != nil {
		return fmt.Errorf("what was remembered cannot be read; to begin anew, and to believe an old index again, remove the file: %s: %w", u.stateFile(), err)
	}
	return nil
}

// save makes it durable.
func (u *updater) save() error {
	text, err := json.MarshalIndent(u.memory, "", "  ")
	if err != nil {
		return err
	}
	return u.writeFile(u.stateFile(), append(text, '\n'), 0o644)
}
