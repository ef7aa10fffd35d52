// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// umociConfigSteps are for config. Not among them is what shale does in its own way:
//
//   - The history says "shale config" where no flag says otherwise.
//   - umoci forgets the variant of the platform unless --platform.variant repeats it.
//   - umoci sets an image without a time to the year 1.
//   - umoci dies of --manifest.annotation without a value, and takes one without a key,
//     which the image-spec forbids.
//   - A port, volume, label, variable or annotation with a minus sign at its end, and
//     no value, is removed.
const umociConfigSteps = `
init --layout l
new --image l:one
config --image l:one --history.created_by x
config --image l:one --no-history
config --image l:one --no-history --tag two
config --image l:one --history.created_by x --history.author me --history.comment why --history.created 2020-01-02T03:04:05+01:00
config --image l:one --history.created_by= --history.author= --history.comment=
config --image l:one --no-history --author somebody<space><a@example.org>
config --image l:one --history.created_by x --author another
config --image l:one --no-history --created 2021-02-03T04:05:06.789Z
config --image l:one --no-history --created 2021-02-03T04:05:06+02:00
config --image l:one --no-history --config.user 1000:100 --config.workingdir /srv --config.stopsignal SIGQUIT
config --image l:one --no-history --config.user= --config.workingdir= --config.stopsignal=
config --image l:one --no-history --config.user a --config.user b
config --image l:one --no-history --os plan9 --architecture mips
config --image l:one --no-history --platform.os linux --platform.arch amd64
config --image l:one --no-history --config.env A=1 --config.env B=x=y --config.env C=a,b --config.env AB=
config --image l:one --no-history --config.env B=2 --config.env D= --config.env A=3<space>4
config --image l:one --no-history --clear config.env
config --image l:one --no-history --config.env A=1 --config.env A=2
config --image l:one --no-history --clear config.env --config.env Z=26
config --image l:one --no-history --config.cmd -c --config.cmd ls,<space>-l --config.cmd --bogus
config --image l:one --no-history --config.cmd --
config --image l:one --no-history --config.entrypoint /bin/sh --config.entrypoint -e
config --image l:one --no-history --config.entrypoint /bin/true
config --image l:one --no-history --config.entrypoint=
config --image l:one --no-history --config.entrypoint [] --config.cmd ["a","b"]
config --image l:one --no-history --clear config.entrypoint --clear config.cmd
config --image l:one --no-history --clear=config.cmd --config.cmd a
config --image l:one --no-history --config.volume /data --config.volume /srv/x,y --config.exposedports 80/tcp --config.exposedports 53/udp
config --image l:one --no-history --config.volume /more --config.exposedports 8080
config --image l:one --no-history --clear config.volume --config.volume /only
config --image l:one --no-history --clear config.exposedports --clear config.volume
config --image l:one --no-history --config.label b=2 --config.label a=1 --config.label a=x=y --config.label k-=v
config --image l:one --no-history --config.label a= --manifest.annotation org.example=yes --manifest.annotation q=<space>
config --image l:one --no-history --clear config.labels --config.label c=3
config --image l:one --no-history --manifest.annotation org.example=no --manifest.annotation k-=v=w
config --image l:one --no-history --clear manifest.annotations
config --image l:one --no-history --clear config.labels --clear config.labels
config --image l:one --tag three --history.created_by x --config.user c
config -image=l:three -tag=four -history.created_by=x -config.user=d
raw add-layer --image l:one --compress none --history.created_by x layer.tar
config --image l:one --history.created_by x --config.cmd a
config --image l:one --tag variant --no-history --platform.variant v2
SOURCE_DATE_EPOCH=1 config --image l:one --history.created_by x
SOURCE_DATE_EPOCH=x config --image l:one --history.created_by x
SOURCE_DATE_EPOCH=x config --image l:one --no-history
SOURCE_DATE_EPOCH= config --image l:one --no-history
config
config --image l:nope --no-history
config --image nope --no-history
config --image l: --no-history
config --image l:one extra
config extra --image l:one
config --image l:one -- extra
config --image l:one --no-history --history.author a
config --image l:one --history.created today
config --image l:one --created today
config --image l:one --created=
config --image l:one --tag .
config --image l:one --tag=
config --image l:one --config.env A
config --image l:one --config.env =1
config --image l:one --config.env=
config --image l:one --config.label A
config --image l:one --config.label =1
config --image l:one --clear rootfs.diffids
config --image l:one --clear config
config --image l:one --clear=
config --image l:one --clear config.env,config.cmd
config --image l:one --config.bogus
config --image l:one --config.cmd
ls --layout l
stat --image l:one
stat --image l:variant --json
gc --layout l
`

func TestConfigLikeUmoci(t *testing.T) { likeUmoci(t, umociConfigSteps) }

// umociInsertSteps are for insert. Not among them is what shale does in its own way:
//
//   - The entries of a layer are sorted, an opaque whiteout among them, and the root is
//     called "./".
//   - The root can be neither deleted nor replaced by a file.
//   - A directory with the name of a whiteout is refused also above the target.
//   - --whiteout=false is no --whiteout.
const umociInsertSteps = `
init --layout l
new --image l:one
insert --image l:one --compress none --history.created_by x src/file /etc/file
insert --image l:one --compress none --history.created_by x src /opt
insert --image l:one --compress none --history.created_by x src/ opt/deep/er/
insert --image l:one --compress none --history.created_by x ./src/../src/dir ../../x/../y
insert --image l:one --compress none --history.created_by x src/link /link
insert src/file --image l:one /late --compress none --history.created_by x
insert --image l:one --compress none --history.created_by x --whiteout /etc/file
insert --image l:one --compress none --history.created_by x --whiteout opt/deep/
insert --image l:one --compress none --history.created_by x --whiteout --opaque /late
insert --image l:one --compress none --history.created_by x --history.author me --history.comment why --tag two src/file a
insert --image l:one --compress none --history.created_by x --history.created 2020-01-02T03:04:05Z src/file a
insert --image l:one --compress none --no-history --tag three src/file a
insert --image l:one --compress none --history.created_by x --rootless src/file b
insert --image l:one --compress none --history.created_by x --uid-map 5:0 --gid-map 7:0:2 src/file c
SOURCE_DATE_EPOCH=1 insert --image l:one --compress none --history.created_by x src d
insert --image l:one --compress none --history.created_by x nope e
insert --image l:one --compress none --history.created_by x src .wh.e
insert --image l:one --compress none --history.created_by x wh e
insert --image l:one --compress none --history.created_by x --whiteout .wh.e
insert --image l:one --compress none --uid-map 5:5 src/file c
insert --image l:one --compress none --uid-map 5 src/file c
insert --image l:one --compress none src/file
insert --image l:one --compress none src/file a b
insert --image l:one --compress none --whiteout a b
insert --image l:one --compress none --whiteout
insert --image l:one --compress none <empty> a
insert --image l:one --compress none src/file <empty>
insert --image l:one --compress none --whiteout <empty>
insert --image l:one --compress lz4 src/file a
insert --image l:one --tag a/ src/file a
insert --image l:one --no-history --history.comment a src/file a
insert --image l:one --history.created now src/file a
SOURCE_DATE_EPOCH=x insert --image l:one src/file a
insert --image l:nope src/file a
insert src/file a
ls --layout l
stat --image l:one --json
stat --image l:three
`

func TestInsertLikeUmoci(t *testing.T) { likeUmoci(t, umociInsertSteps) }
