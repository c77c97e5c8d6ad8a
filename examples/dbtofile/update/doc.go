// Command dbtofile-update keeps dbtofile up to date: it looks for a newer release,
// deploys it, sees whether it does well, and goes back to the one before if it does
// not. A timer of systemd, or cron, runs it; it does one thing and exits.
//
//	dbtofile-update -source https://example.org/dbtofile
//	dbtofile-update -source https://example.org/dbtofile -check    # what runs, what there is, what would be done
//
// It is a program of its own so that a release that does not start cannot keep its
// successor from being deployed. It never replaces itself, nor the keys it trusts: those come
// with the package. See README.md for how to publish releases and set it up.
//
// # A run
//
//   - A deploy that an earlier run could not bring to its end is brought to its end.
//   - index.json and its signature are read from the source, and the newest release
//     is chosen that may follow what really runs: the file of the process, not what a link
//     says.
//   - The binary is downloaded beside the others, compared with the size and hash
//     of the index, made durable, tried as nobody, and renamed to releases/VERSION.
//   - If dbtofile does not do well at this moment, that is all: the deploy is deferred.
//   - What is about to be done is written down. The link current is swapped, and the units
//     are restarted.
//   - The release must do well for -settle, within -gate: each unit is active and has
//     not ended by itself, its process runs the new file, /status answers with the new
//     version and that it is ready, and each pipeline has polled since its start and
//     goes on to poll.
//   - If it does not, the link is swapped back and the units are restarted. If the old
//     release does well then, the new one is to blame: it is in quarantine, and not tried
//     again. If the old one does no better, or its pipelines failed at first as those of the
//     new one did, something else is broken, such as the database: nobody is to blame, and a
//     later run tries again.
//   - Old releases are removed, but for -keep of them.
//
// # What is deferred, and what is not
//
// A deploy is for a moment at which all is well, so that what goes wrong then is the
// release's fault. A unit that is active and does not do well defers it, for example while
// the database is down. A unit that has failed, or that systemd starts again and again,
// does not: it has nothing to lose, and the release may be the fix. A unit that is stopped, or masked,
// is left so; it will start with the new release, which the others have proved. If all
// are stopped, nothing could prove it, and it is deferred. With -force neither is a reason;
// whether the new release does well is still looked at. Units need Restart=always: then
// inactive means stopped by somebody, and nothing else.
//
// # Versions
//
// Versions are semantic. There is no way to an older one but a rollback: a release that
// turns out to be bad later is followed by a newer one. A version is one binary for
// ever: other bytes for a version that is here already, or in quarantine, are not
// deployed. Quarantine goes by the version; -unquarantine ends it. A release
// may name the oldest version it can follow (min_from); longer ways are gone in
// several runs.
//
// # Settings
//
// Run dbtofile-update -h for the flags. Each can be given in the environment as well,
// as DBTOFILE_UPDATE_ and its name, which is what /etc/dbtofile/update.env is for. Proxies
// are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY. The timer spreads machines over time by
// itself; for cron there is -jitter. Redirects are followed, five at most and never from https to http.
//
// # Whom one has to trust
//
// Releases are believed because of a signature by one of the keys in -keys, and
// for nothing else. So whoever owns the web server, the network or the disk in between can hand
// out something old or nothing, and that is all: an older index than one seen before is
// refused, and none is believed after it has expired. The alert on
// dbtofile_update_last_check_timestamp_seconds tells that no fresh index came. The source may
// therefore be plain http. Nothing of a file is interpreted before it was verified, and no more
// of it is read than its limit. Minisign's trusted comment is checked with the signature, but
// nothing is taken from it.
//
// Who has a secret key can run programs of their own as the user of dbtofile, whose unit
// shuts it in, until the key's public half is taken out of /etc/dbtofile/keys on each
// machine. So two keys are trusted: one to sign with, and one that lies somewhere safe
// to go on with. A binary is tried as the user nobody, never as root.
//
// This program runs as root, since it restarts units; its unit takes away all rights but
// those it needs. Root owns /opt/dbtofile and what is in it: the user of dbtofile cannot change
// the program it runs. What dbtofile says of itself in /status decides only over a
// deploy and a rollback.
//
// # Exit codes
//
//	0  up to date, or deployed
//	1  error: the log says what; what was begun is brought to its end by the next run
//	2  wrong usage
//	3  deferred: dbtofile did not do well before, or does not with the old release either, or
//	   nothing could show that it does
//	4  rolled back
//	5  another run is at work
//	6  -check: a release is there to be deployed
package main
